"""Goel's grid of alpha and lambda, and pairs that Optuna's TPE samples in its place.

`pairs` holds the settings and the score, without a model; `scorer` evaluates them on one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
