"""One page about results that can be sent: a summary, tables, figures, failures, provenance, what is missing.

`results_read` reads, one module a section says what it shows, `rendering` fills ``page.html`` with it, and
`report` and `watching` write the file. Whatever comes from results is text in the page, never markup.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
