"""Results, and models that were healed, as other programs take them: Optuna, CSV, DuckDB, Hugging Face.

One module a format; a new one is an entry of `EXPORTS` in `formats`. Rows are read from
`theriac.search.store`, a few at a time, and nothing is computed here. What is written is there whole or not
at all.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
