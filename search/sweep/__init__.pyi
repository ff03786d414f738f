from .cell_rows import (
    CellRows as CellRows,
    failed_row as failed_row,
)
from .dampening_cell import (
    STEPS_AFTER_STOP as STEPS_AFTER_STOP,
)
from .data_checks import (
    checked_sweep as checked_sweep,
)
from .described_rows import (
    describer as describer,
)
from .files import (
    dump_sweep as dump_sweep,
    load_sweep as load_sweep,
    preset_names as preset_names,
    sweep_presets as sweep_presets,
)
from .jobs import (
    Answer as Answer,
    Failure as Failure,
    ImportanceJob as ImportanceJob,
    SearchJob as SearchJob,
    TrainJob as TrainJob,
    UntreatedJob as UntreatedJob,
    read_job as read_job,
)
from .rules import (
    Task as Task,
)
from .runner import (
    JobRunner as JobRunner,
)
from .scenario import (
    PRESETS as PRESETS,
    Cell as Cell,
    Scenario as Scenario,
    Scoring as Scoring,
)
from .scenario_progress import (
    VICTIM as VICTIM,
    ScenarioPlan as ScenarioPlan,
)
from .schedule import (
    Done as Done,
    Schedule as Schedule,
    Ticket as Ticket,
)
from .spec import (
    Sweep as Sweep,
)
from .victim_bench import (
    Experiment as Experiment,
    Part as Part,
)
from .victim_importances import (
    ImportancePart as ImportancePart,
    part_for as part_for,
    piece_bounds as piece_bounds,
)
from .victim_parts import (
    problem_sort as problem_sort,
)
from .yaml_tree import (
    override as override,
)
