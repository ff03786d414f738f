from .heal import (
    heal_by_training as heal_by_training,
    tune_settings as tune_settings,
)
from .objectives import (
    SELECTION_CLEAN as SELECTION_CLEAN,
    SELECTION_HEALED as SELECTION_HEALED,
)
from .registry import (
    defaults as defaults,
    from_recipe as from_recipe,
    unlearner as unlearner,
)
from .settings import (
    NEEDS_CLEAN as NEEDS_CLEAN,
    TPE_ONLY as TPE_ONLY,
    TRAINED_METHODS as TRAINED_METHODS,
    TUNE_SEARCHES as TUNE_SEARCHES,
    TrainedMethod as TrainedMethod,
    TuneSearch as TuneSearch,
    TuneSettings as TuneSettings,
)
from .spaces import (
    Parameters as Parameters,
)
from .start import (
    start_of as start_of,
)
from .tuning import (
    Tuned as Tuned,
    Tuning as Tuning,
)
