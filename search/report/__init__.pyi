from .all_figures import (
    result_figures as result_figures,
)
from .comparison_table import (
    published_comparison as published_comparison,
)
from .explain import (
    explained as explained,
)
from .figures import (
    attack_sheet as attack_sheet,
    caption as caption,
    contact_sheet as contact_sheet,
    importance_figure as importance_figure,
    tradeoff_figure as tradeoff_figure,
)
from .finished import (
    finished_searches as finished_searches,
)
from .page import (
    read_results as read_results,
    report_page as report_page,
    watch_report as watch_report,
    write_report as write_report,
)
from .progress import (
    Running as Running,
    SweepProgress as SweepProgress,
    process_table as process_table,
)
from .result_table import (
    ResultTable as ResultTable,
)
from .status import (
    FAILED as FAILED,
    SWEEPS as SWEEPS,
    estimate_left as estimate_left,
    status_json as status_json,
    sweep_status as sweep_status,
)
from .status_lines import (
    counted as counted,
    duration as duration,
    status_text as status_text,
)
from .table import (
    searches_table as searches_table,
)
from .table_choice import (
    STATISTICS as STATISTICS,
    TableChoice as TableChoice,
)
from .table_formats import (
    FORMATS as FORMATS,
    TerminalTable as TerminalTable,
    formula_safe as formula_safe,
    render as render,
)
