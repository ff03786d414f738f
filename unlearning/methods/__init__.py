"""The unlearning methods that train, one module each, and what they share.

A new method is an `Unlearner`, and an entry of the registry in `theriac.search.training`, which says how its
hyperparameters are searched. Methods that dampen are `theriac.unlearning.dampening` with a search.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
