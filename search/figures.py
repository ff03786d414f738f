"""The searches of a results folder, and all figures of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from ..errors import BadInput
from .guard_plots import guard_figures, healing_figures
from .results import ResultsStore
from .sweep_plots import sweep_figures
from .trial_plots import trial_figures


def finished_searches(results: Path) -> pa.Table:
    """The searches of a folder.

    Raises:
        BadInput: there is no such folder, or no search in it.
    """
    searches = ResultsStore(results, create=False).read("searches")
    if not searches.num_rows:
        raise BadInput(f"{results} holds no finished searches yet; run `theriac sweep` or wait for one")
    return searches


def result_figures(results: Path, directory: Path) -> tuple[Path, ...]:
    """Draw what the finished cells of a folder allow.

    See `sweep_figures`, `healing_figures`, `trial_figures` and `guard_figures`.

    Raises:
        BadInput: no cell has been scored yet, or ``directory`` cannot be written.
    """
    searches, steps = finished_searches(results), ResultsStore(results, create=False).read("steps")
    return (
        *sweep_figures(searches, directory),
        *healing_figures(searches, directory),
        *trial_figures(steps, searches, directory),
        *guard_figures(steps, searches, directory),
    )
