"""What the commands of `theriac` do, one module a command, and how they speak.

Arguments are parsed in `theriac.cluster.cli` alone. What a command computes lies in the folders below.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
