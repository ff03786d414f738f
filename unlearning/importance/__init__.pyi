from .estimate import (
    KINDS as KINDS,
    Granularity as Granularity,
    Kind as Kind,
    estimate_importance as estimate_importance,
    estimate_importances as estimate_importances,
)
from .sums import (
    Importance as Importance,
)
