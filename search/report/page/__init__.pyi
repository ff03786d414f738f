from .report import (
    report_page as report_page,
    write_report as write_report,
)
from .results_read import (
    ReadResults as ReadResults,
    read_results as read_results,
)
from .watching import (
    watch_report as watch_report,
)
