"""The page written again while a sweep runs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

from ....errors import BadInput
from ...store import SCHEMAS
from ..progress import SweepProgress
from ..status import SWEEPS
from .rendering import render_page
from .report import page_sections, write_page
from .results_read import read_results

SECONDS = 5.0
PATIENCE = 5
"""The work on a page takes at most one part in so many of the time: the rest belongs to the sweep."""


def watch_report(
    *folders: Path, to: Path, seconds: float = SECONDS, told: Callable[[str], None] = lambda _: None
) -> Path:
    """Write the page again whenever the results have changed, until no sweep runs any more.

    A browser loads the page again by itself, until the last one, which is also what Ctrl-C leaves.

    Args:
        folders: of results.
        to: the file.
        seconds: between two looks.
        told: is called with a sentence for each page.

    Raises:
        BadInput: there is no such folder, or the file cannot be written.
        KeyboardInterrupt: with what was left.
    """
    sections: dict[str, Any] = {}
    try:
        while _written(folders, to, seconds, sections, told):
            pass
    except KeyboardInterrupt:
        if sections:
            write_page(render_page({**sections, "refresh": None}), to)
        raise KeyboardInterrupt(f"interrupted; {to} shows the results as they were") from None
    return to


def _written(
    folders: tuple[Path, ...],
    to: Path,
    seconds: float,
    sections: dict[str, Any],
    told: Callable[[str], None],
) -> bool:
    """Write one page, and wait until there is another one to write; False when it was the last."""
    begun, state = monotonic(), results_state(folders)
    results = read_results(*folders, empty=True)
    sections.update(page_sections(results, refresh=round(seconds) if results.alive else None))
    write_page(render_page(sections), to)
    told(f"{to}: {len(results.searches):,} rows{', a sweep is running' if results.alive else ''}")
    if not results.alive:
        return False
    sleep(max(seconds, (PATIENCE - 1) * (monotonic() - begun)))
    while results_state(folders) == state:
        sleep(seconds)
    return True


def results_state(folders: tuple[Path, ...]) -> list[object]:
    """Return what changes when results do: the parts of their tables, and how far their sweeps are.

    A driver that has died says nothing any more; so that this is seen, silence changes the state, too.
    """
    return [one for folder in folders for one in (*_parts(folder), *_sweeps(folder))]


def _parts(folder: Path) -> list[str]:
    tables = (folder / table for table in SCHEMAS)
    return sorted(path.name for table in tables for path in table.glob("*.parquet"))


def _sweeps(folder: Path) -> list[object]:
    files = sorted(path for path in (folder / SWEEPS).glob("[!.]*") if path.suffix in (".yaml", ".json"))
    return [(path.name, _progress(path)) for path in files]


def _progress(path: Path) -> object:
    with suppress(BadInput):
        if path.suffix == ".json":
            progress = SweepProgress.read(path)
            silent = int((time() - progress.updated_at.timestamp()) // 60)
            return progress.state, progress.cells_done, progress.cells_failed, silent
    return None
