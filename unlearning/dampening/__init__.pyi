from .direction import (
    centred as centred,
    falling as falling,
)
from .path import (
    DampeningPath as DampeningPath,
)
from .rule import (
    Ratios as Ratios,
    alpha_at as alpha_at,
    check_match as check_match,
    check_settings as check_settings,
    checked_means as checked_means,
    dampen as dampen,
    dampening_factor as dampening_factor,
    interpolated as interpolated,
    percentile_place as percentile_place,
    shrinking as shrinking,
    within_float32 as within_float32,
)
from .unchanged import (
    Unchanged as Unchanged,
    bytes_of as bytes_of,
)
