"""How sensitive a model is to each of its parameters: importances, by sample and by batch, exact and fast.

`estimate_importance` is the way in. A new layer's rule goes into `layer_gradients`, a new way to
differentiate into `traversal`; what is done with importances (dampening, searches, storing) does not belong
here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
