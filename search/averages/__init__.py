"""What rows of results have in common, and what is averaged over what.

Rows of ``searches`` go in; fields by name, rows that an expression chooses, groups of rows that differ in
nothing but what may be pooled, and their averages and tests come out. How anything is shown is the matter of
`theriac.search.report`. All of it works on whole columns: a loop over rows is too slow for a real sweep.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
