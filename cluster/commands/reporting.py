"""The command that writes a page about results folders."""

from __future__ import annotations

from pathlib import Path

from ...errors import BadInput, printable
from ..options import Other, Results
from .reading import Answer

PAGE = "report.html"
SUFFIXES = (".html", ".htm")


def report(results: Results, /, *more: Results, to: Other = None, watch: bool = False) -> Answer:
    """Write one HTML page about results folders, to read and to send; it loads nothing and works offline.

    Summary, the papers' tables beside yours, all averages with the rows behind them, figures, failures,
    provenance, and what is missing. Works while a sweep runs.

    Parameters
    ----------
    to
        The file; by default RESULTS/report.html.
    watch
        Write it again whenever the results have changed, until no sweep runs any more; Ctrl-C ends it.
    """
    from ...search.report import watch_report, write_report

    page = checked_page(to or results / PAGE)
    write = watch_report if watch else write_report
    return Answer(text=printable(str(write(results, *more, to=page))))


def checked_page(path: Path) -> Path:
    """Refuse a file that no browser would take for a page, and a folder.

    Raises:
        BadInput: names the option and a file.
    """
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        better = path / PAGE if path.is_dir() else path.with_suffix(".html")
        raise BadInput(f"--to {path} is not the name of a page; give a file, such as --to {better}")
    return path
