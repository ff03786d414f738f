from .entry import (
    GUARDED as GUARDED,
)
from .machine import (
    GuardedSearch as GuardedSearch,
    GuardedState as GuardedState,
    GuardedStep as GuardedStep,
    Probes as Probes,
)
from .settings import (
    GuardedFields as GuardedFields,
)
from .start import (
    GuardedStart as GuardedStart,
)
