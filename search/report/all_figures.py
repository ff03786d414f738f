"""All figures of a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ..store import ResultsStore
from .finished import finished_searches
from .guarded_figures import guard_figures, healing_figures
from .sweep_figures import sweep_figures
from .trial_figures import trial_figures


class Drawn(NamedTuple):
    """What was drawn.

    Attributes:
        paths: of the figures that were written.
        left_out: what figures show -> how many of them were not drawn, because there are too many.
    """

    paths: tuple[Path, ...]
    left_out: dict[str, int]


def result_figures(results: Path, directory: Path, *, ending: str = "png", most: int | None = None) -> Drawn:
    """Draw what the finished cells of a folder allow.

    See `sweep_figures`, `healing_figures`, `trial_figures` and `guard_figures`.

    Args:
        results: the folder of a `ResultsStore`.
        directory: where the figures go.
        ending: "png", "svg" or "pdf".
        most: figures of each kind; None: all.

    Raises:
        BadInput: no cell has been scored yet, or ``directory`` cannot be written.
    """
    searches, steps = finished_searches(results), ResultsStore(results, create=False).read("steps")
    paths = (
        *sweep_figures(searches, directory, ending=ending, most=most),
        *healing_figures(searches, directory, ending=ending, most=most),
        *trial_figures(steps, searches, directory, ending=ending, most=most),
        *guard_figures(steps, searches, directory, ending=ending, most=most),
    )
    return Drawn(paths, {})
