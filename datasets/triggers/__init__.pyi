from .base import (
    Overlay as Overlay,
    Trigger as Trigger,
    check_fits as check_fits,
)
from .own import (
    OwnTrigger as OwnTrigger,
)
from .patches import (
    BadNets as BadNets,
    MovingPatch as MovingPatch,
    TrojanSquare as TrojanSquare,
    TrojanWatermark as TrojanWatermark,
)
from .perturbations import (
    L0 as L0,
    L2 as L2,
    Sine as Sine,
    Smooth as Smooth,
)
from .pictured import (
    Additive as Additive,
    Blend as Blend,
    Masked as Masked,
    Semantic as Semantic,
)
from .registry import (
    TRIGGERS as TRIGGERS,
    AnyTrigger as AnyTrigger,
    is_trigger as is_trigger,
    parse_trigger as parse_trigger,
)
from .warps import (
    WaNet as WaNet,
)
