"""All figures of a results folder: which there are, what is read for them, and where they go."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import BadInput
from ...rows import Row
from ..averages import Rows
from ..store import ResultsStore
from . import figures
from .differences import SETUP
from .figures import Drawing
from .finished import finished_searches

MOST = 4
"""Figures of each kind."""
MEASURED = ("forget_accuracy", "clean_accuracy", "damage", "asr", "healed_raw", "healed")
COLUMNS = (
    *("key", "dataset", "model", "attack", "manipulated", "share", "seed", "scenario", "setup", *SETUP),
    *("method", "granularity", "search", "settings", "status", "error_class", "parameters", "uses_oracle"),
    *("s", "alpha", "steps", "dampened", "suspects", "left_out", "flat"),
    *MEASURED,
    *("seconds_victim", "seconds_importance", "seconds_search", "seconds_evaluation"),
)
"""Columns of ``searches`` that are drawn."""

KINDS: dict[str, Callable[[Sequence[Row]], list[Drawing]]] = {
    "of healing and damage against share": figures.share_drawings,
    "of healing against damage": figures.healing_drawings,
    "of what settings do": figures.sensitivity_drawings,
    "of seconds by phase": figures.time_drawings,
    "of trade-offs along a search": figures.tradeoff_drawings,
    "of trials": figures.trial_drawings,
    "of guarded searches": figures.flip_drawings,
}
"""What a kind of figure shows -> its drawings."""


class Drawn(NamedTuple):
    """What was drawn.

    Attributes:
        paths: of the figures that were written.
        left_out: what figures show -> how many of them were not drawn, because there are too many.
    """

    paths: tuple[Path, ...]
    left_out: dict[str, int]


def result_figures(results: Path, directory: Path, *, ending: str = "png", most: int = MOST) -> Drawn:
    """Draw what the finished cells of a folder allow; works while the sweep runs.

    Of each kind the first figures are drawn, first seeds and shares before further ones. Only the steps that
    these show are read.

    Args:
        results: the folder of a `ResultsStore`.
        directory: where the figures go.
        ending: "png", "svg" or "pdf".
        most: figures of each kind.

    Raises:
        BadInput: no cell has been scored yet, or ``directory`` cannot be written.
    """
    rows = read_searches(results)
    found = {shows: kind(rows) for shows, kind in KINDS.items()}
    if not found["of healing against damage"]:
        raise BadInput("there is no scored cell to draw; wait until the sweep has finished one")
    chosen = {shows: figures.first_in_turn(drawings, most) for shows, drawings in found.items()}
    paths = _draw([one for some in chosen.values() for one in some], results, directory, ending)
    drawn = {shows for shows, some in chosen.items() if any(one in paths for one in some)}
    left_out = {shows: len(drawings) - most for shows, drawings in found.items() if len(drawings) > most}
    return Drawn(tuple(paths.values()), {shows: left_out[shows] for shows in left_out if shows in drawn})


def _draw(chosen: Sequence[Drawing], results: Path, directory: Path, ending: str) -> dict[Drawing, Path]:
    """Write the figures for which there are rows."""
    steps, paths = _steps(results, chosen), {}
    for name, drawing in zip(figures.file_names(one.place for one in chosen), chosen, strict=True):
        figure = drawing.draw(steps)
        if figure is not None:
            paths[drawing] = figures.save_figure(figure, directory / f"{name}.{ending}")
    return paths


def read_searches(results: Path) -> list[Row]:
    """Read the searches of a folder as figures take them; what was counted over nothing, NaN, is missing."""
    searches = Rows(finished_searches(results))
    rows = searches.lines(COLUMNS, np.arange(len(searches)))
    for row in rows:
        row.update((name, None) for name in MEASURED if row[name] is not None and math.isnan(row[name]))
    return rows


def _steps(results: Path, drawings: Sequence[Drawing]) -> dict[str, list[Row]]:
    """Read the steps of the searches that are drawn, with the columns that are."""
    keys = {key for drawing in drawings for key in drawing.searches}
    columns = dict.fromkeys(name for drawing in drawings for name in drawing.columns)
    steps: dict[str, list[Row]] = defaultdict(list)
    if keys:
        table = ResultsStore(results, create=False).read("steps", columns=list(columns), searches=keys)
        for row in table.to_pylist():
            steps[row["search"]].append(row)
    return steps
