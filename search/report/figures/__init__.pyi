from .canvas import (
    FORMATS as FORMATS,
    save_figure as save_figure,
)
from .drawing import (
    Drawing as Drawing,
    file_names as file_names,
    first_in_turn as first_in_turn,
)
from .flips import (
    flip_drawings as flip_drawings,
)
from .healing import (
    healing_drawings as healing_drawings,
)
from .importances import (
    importance_figure as importance_figure,
)
from .pictures import (
    caption as caption,
    contact_sheet as contact_sheet,
)
from .sensitivity import (
    sensitivity_drawings as sensitivity_drawings,
)
from .shares import (
    share_drawings as share_drawings,
)
from .times import (
    time_drawings as time_drawings,
)
from .tradeoff import (
    tradeoff_drawings as tradeoff_drawings,
    tradeoff_figure as tradeoff_figure,
)
from .trials import (
    trial_drawings as trial_drawings,
)
from .trigger_sheet import (
    attack_sheet as attack_sheet,
)
