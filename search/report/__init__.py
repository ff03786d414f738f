"""Results as people read them: tables, figures, and how sweeps stand.

A new table format is an entry of `FORMATS` in `table_formats`, a new kind of figure a module of
`figures`, and a line in `all_figures`. Rows are read from `theriac.search.store`, and never computed here.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
