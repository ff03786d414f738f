"""Healing by methods that train: their registry, their hyperparameters, and the search for these.

A new method of `theriac.unlearning.methods` gets its entry here. Methods that dampen are searched elsewhere.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
