"""Where images come from: datasets by name, class folders, Parquet files, and how files become pixels.

A new dataset is one entry of `DATASETS` in `names`; a new file format is a module with an `ImageSource`. What
changes images (triggers, normalisation, augmentation) and who is poisoned does not belong here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
