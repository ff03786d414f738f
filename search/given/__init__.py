"""What a user hands over, model and samples, read as it is meant and checked before any long work.

Here are all ways to hold samples (tensors, datasets, loaders), the checked copy of a model, and the signs
that the two do not belong together: another order of labels, another normalisation. Files are read
elsewhere (`theriac.datasets.sources`, `theriac.unlearning.models`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
