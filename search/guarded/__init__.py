"""The guarded search (ours): dampen in the order of a ranking, watch retain, and give back what harms.

`machine` is the search as a pure state machine; `problem` evaluates its steps on a model. The samples it
suspects are told from others in `groups`, by their `responses`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
