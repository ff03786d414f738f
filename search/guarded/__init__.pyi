from .entry import (
    GUARDED as GUARDED,
)
from .machine import (
    GuardedSearch as GuardedSearch,
    GuardedState as GuardedState,
    GuardedStep as GuardedStep,
    Probes as Probes,
)
from .problem import (
    MOST_FOUND as MOST_FOUND,
)
from .ranking import (
    MOST_MEASURED as MOST_MEASURED,
)
from .settings import (
    GuardedFields as GuardedFields,
)
from .start import (
    GuardedStart as GuardedStart,
)
