from .gpu_sharing import (
    actors_that_fit as actors_that_fit,
    measured_peak as measured_peak,
)
from .measure import (
    measure_costs as measure_costs,
)
from .plan import (
    SweepPlan as SweepPlan,
    plan_sweep as plan_sweep,
    refined as refined,
)
from .text import (
    plan_json as plan_json,
    plan_text as plan_text,
)
