"""A sweep: its description (YAML), the cells that follow from it, and the jobs that compute them.

`files`, `spec` and `rules` say what is wanted; `scenario` is what determines a victim; `schedule` and
`runner` turn cells into jobs and rows, without a process or a cluster. Who runs the jobs is
`theriac.cluster`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
