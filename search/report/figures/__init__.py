"""Figures, one kind a module: rows of results come in, pictures go out as PNG, SVG or PDF.

What all share is in `canvas` (paper, axes, files), `styles` (how each method looks), `cells` (which rows
belong together) and `drawing` (which figures there are, and which steps each needs). A new kind is a module
with a function that returns `Drawing` objects, and a line in `theriac.search.report.all_figures`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
