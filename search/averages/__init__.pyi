from .averages import (
    MEASURES as MEASURES,
    Averages as Averages,
)
from .blocks import (
    better_everywhere as better_everywhere,
)
from .choice import (
    chosen as chosen,
)
from .differences import (
    differing_settings as differing_settings,
)
from .fields import (
    Coded as Coded,
    Rows as Rows,
)
from .groups import (
    Groups as Groups,
    grouped_by as grouped_by,
    pooled as pooled,
)
from .spread import (
    Spread as Spread,
)
