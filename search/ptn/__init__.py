"""PTN search (Potion, section 3.2): walk alpha up until the found poison is forgotten, step by step.

`machine` is the search as a pure state machine, without a model; `driver` evaluates its steps on one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
