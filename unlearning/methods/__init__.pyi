from .fine_pruning import (
    FinePruning as FinePruning,
)
from .fine_tuning import (
    CleanFineTuning as CleanFineTuning,
    FineTuneOnClean as FineTuneOnClean,
    FineTuneOnRetain as FineTuneOnRetain,
)
from .gradient_ascent import (
    NPO as NPO,
    RGA as RGA,
    GradientAscent as GradientAscent,
    check_base as check_base,
)
from .ibau import (
    IBAU as IBAU,
)
from .nad import (
    NeuralAttentionDistillation as NeuralAttentionDistillation,
)
from .neural_cleanse import (
    NeuralCleanse as NeuralCleanse,
)
from .unlearner import (
    Known as Known,
    Set as Set,
    Unlearned as Unlearned,
    Unlearner as Unlearner,
    Watch as Watch,
)
