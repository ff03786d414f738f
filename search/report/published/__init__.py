"""What the two papers print: their numbers, how tables and figures are laid out, and which presets give them.

`numbers.csv` holds the numbers, `layouts/` the tables and figures; both are data, and nothing here computes
or prints. A new table is an entry of a layout, its numbers lines of the CSV, and its rows a preset of
`theriac.search.sweep`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
