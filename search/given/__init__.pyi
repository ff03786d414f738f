from .batches import (
    Batches as Batches,
    as_batches as as_batches,
    check_classes as check_classes,
    random_part as random_part,
)
from .behaviour import (
    check_behaviour as check_behaviour,
)
from .first_pass import (
    first_look as first_look,
)
from .model import (
    device_of as device_of,
    save_weights as save_weights,
    with_weights as with_weights,
    working_copy as working_copy,
)
from .preprocessing_signs import (
    check_alike as check_alike,
)
from .samples import (
    as_samples as as_samples,
)
from .victim_check import (
    Check as Check,
    VictimCheck as VictimCheck,
    unchecked as unchecked,
)
from .workers import (
    telling_of_dead_workers as telling_of_dead_workers,
)
