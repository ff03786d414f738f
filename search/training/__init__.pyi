from .heal import (
    heal_by_training as heal_by_training,
    tune_settings as tune_settings,
)
from .objectives import (
    SELECTION_CLEAN as SELECTION_CLEAN,
    SELECTION_HEALED as SELECTION_HEALED,
    parts as parts,
)
from .parameters import (
    defaults as defaults,
    from_recipe as from_recipe,
    unlearner as unlearner,
)
from .registry import (
    NEEDS_CLEAN as NEEDS_CLEAN,
    TRAINED_METHODS as TRAINED_METHODS,
    TrainedEntry as TrainedEntry,
    TrainedMethod as TrainedMethod,
)
from .settings import (
    TPE_ONLY as TPE_ONLY,
    TUNE_SEARCHES as TUNE_SEARCHES,
    TuneSearch as TuneSearch,
    TuneSettings as TuneSettings,
)
from .spaces import (
    Choice as Choice,
    Parameters as Parameters,
    Range as Range,
)
from .start import (
    start_of as start_of,
)
from .tuning import (
    Tuned as Tuned,
    Tuning as Tuning,
)
