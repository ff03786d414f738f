"""Selective dampening: shrink the weights that matter more to the found poison than to the rest.

`rule` is the definition, `path` walks it from one alpha to the next, and `unchanged` and `purity` leave out
forward passes that cannot have changed. Which alpha to take is a search, and belongs to `theriac.search`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
