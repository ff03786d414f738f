"""The page about results, as text and as a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .... import __version__
from ....errors import BadInput
from ...store import write_atomically
from .beside_papers import beside_papers
from .failures import failure_grid
from .line_rows import lines_section
from .missing import missing_grid
from .pictures import pictures
from .provenance import provenance_grids, torch_versions
from .rendering import embedded, render_page
from .results_read import ReadResults, read_results
from .summary import summary, title


def report_page(results: ReadResults, *, refresh: int | None = None, now: datetime | None = None) -> str:
    """Write the page about results.

    Args:
        results: from `read_results`.
        refresh: seconds after which a browser loads it again; None: never.
        now: when it was made; None for the present.
    """
    return render_page(page_sections(results, refresh=refresh, now=now))


def page_sections(
    results: ReadResults, *, refresh: int | None = None, now: datetime | None = None
) -> dict[str, Any]:
    """Return everything that the template names, see `report_page`."""
    lines = lines_section(results)
    return {
        "title": title(results),
        "folders": [str(folder) for folder in results.folders],
        "made": f"{now or datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "version": __version__,
        "refresh": refresh,
        "summary": summary(results),
        "papers": beside_papers(results),
        "lines": lines,
        "behind": embedded(lines.behind),
        "pictures": pictures(results),
        "failures": failure_grid(results),
        "provenance": provenance_grids(results),
        "torch_versions": torch_versions(results),
        "missing": missing_grid(results),
        "sweeps_known": bool(results.standings),
    }


def write_report(*folders: Path, to: Path) -> Path:
    """Write the page about results folders to a file.

    Raises:
        BadInput: there is no such folder, no search in any, or the file cannot be written.
    """
    return write_page(report_page(read_results(*folders)), to)


def write_page(page: str, path: Path) -> Path:
    """Write the page, whole or not at all.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        write_atomically(path, lambda temporary: _write(temporary, page))
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror or error}); name another file") from error
    return path


def _write(path: Path, page: str) -> None:
    path.write_text(page, encoding="utf-8")
