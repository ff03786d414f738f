from .entry import (
    GRID as GRID,
    TPE as TPE,
)
from .pairs import (
    GoelGrid as GoelGrid,
    GridOutcome as GridOutcome,
    GridRow as GridRow,
    best as best,
    check_range as check_range,
    check_sizes as check_sizes,
    score as score,
)
from .settings import (
    GridFields as GridFields,
    TPEFields as TPEFields,
)
from .start import (
    GridStart as GridStart,
    TPEStart as TPEStart,
)
