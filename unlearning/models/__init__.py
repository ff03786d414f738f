"""Architectures by name, one module each, and their checkpoints: weights from the files that people have.

A new architecture is a module and a line of `MODELS` in `build`. How a model is trained is
`theriac.unlearning.training`; what a user gives to `heal` is checked in `theriac.search.given`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
