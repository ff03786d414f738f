"""What is kept: results as Parquet, trained models and importances, on folders and remote storage.

Every entry is whole or absent, carries a checksum, and is named by a key of what it was made from. What the
rows mean is decided by who writes them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
