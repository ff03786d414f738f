from .entry import (
    PTN as PTN,
)
from .machine import (
    PTNSearch as PTNSearch,
    PTNState as PTNState,
    PTNStep as PTNStep,
    percentile_of as percentile_of,
)
from .settings import (
    PTNFields as PTNFields,
)
from .start import (
    PTNStart as PTNStart,
)
