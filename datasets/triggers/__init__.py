"""What an attacker adds to an image: pure functions on batches of images in [0, 1], one family a module.

A new trigger is a subclass of `Trigger`, and a line of `TRIGGERS` in `registry`. Which labels it causes is an
attack (`theriac.datasets.attacks`); which samples carry it is a poisoning (`theriac.datasets.poisoning`).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
