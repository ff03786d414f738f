"""All figures of a results folder."""

from __future__ import annotations

from pathlib import Path

from ..store import ResultsStore
from .finished import finished_searches
from .guarded_figures import guard_figures, healing_figures
from .sweep_figures import sweep_figures
from .trial_figures import trial_figures


def result_figures(results: Path, directory: Path) -> tuple[Path, ...]:
    """Draw what the finished cells of a folder allow.

    See `sweep_figures`, `healing_figures`, `trial_figures` and `guard_figures`.

    Args:
        results: the folder of a `ResultsStore`.
        directory: where the figures go.

    Returns:
        Paths of the figures that were written.

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
