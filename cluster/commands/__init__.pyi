from .closing_sentence import (
    verdict as verdict,
)
from .display import (
    live_reporter as live_reporter,
)
from .doctor import (
    diagnose as diagnose,
)
from .exporting import (
    export as export,
)
from .heal import (
    HealRequest as HealRequest,
    hyperparameters as hyperparameters,
    prepare_output as prepare_output,
)
from .lists import (
    check_sheet as check_sheet,
    draw_attacks as draw_attacks,
    listing as listing,
)
from .messages import (
    Warnings as Warnings,
    explain_usage as explain_usage,
    interruption as interruption,
    printable_lines as printable_lines,
    say_warning as say_warning,
    show_default as show_default,
)
from .quickstart import (
    run_quickstart as run_quickstart,
)
from .reading import (
    Answer as Answer,
    plot as plot,
    shown as shown,
    status as status,
    table as table,
)
from .reporting import (
    report as report,
)
