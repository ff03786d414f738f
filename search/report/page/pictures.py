"""The figures of the page."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ....errors import BadInput
from ..all_figures import result_figures
from ..status_lines import counted
from .results_read import ReadResults
from .svg_markup import svg_markup

MOST_FIGURES = 6
"""Figures of each kind, from each folder."""
MOST_DRAWN = 100_000
"""Rows that figures are drawn of: more take minutes, in which the page would not be there."""
MOST_BYTES = 24_000_000
"""Of all figures together."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure: its title, and its markup, which holds no text of results but drawn letters."""

    title: str
    markup: str


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Figures, and what is said of those that are not there."""

    figures: tuple[Picture, ...]
    notes: tuple[str, ...]


def pictures(results: ReadResults) -> Pictures:
    """Draw the figures that the finished cells of each folder allow."""
    found: list[Picture] = []
    notes: list[str] = []
    if len(results.searches) > MOST_DRAWN:
        words = f"Figures of {len(results.searches):,} rows take minutes and are not in this page"
        return Pictures(figures=(), notes=(f"{words}; theriac plot draws them.",))
    with TemporaryDirectory(prefix="theriac-report-") as place:
        for number, folder in enumerate(results.folders):
            _draw(folder, Path(place) / str(number), found, notes)
    return Pictures(figures=tuple(found), notes=tuple(notes))


def _draw(folder: Path, place: Path, found: list[Picture], notes: list[str]) -> None:
    try:
        drawn = result_figures(folder, place, ending="svg", most=MOST_FIGURES)
    except BadInput as error:
        notes.append(f"{folder}: {error}")
        return
    room = MOST_BYTES - sum(len(one.markup) for one in found)
    for number, path in enumerate(drawn.paths):
        if path.stat().st_size > room:
            left = len(drawn.paths) - number
            notes.append(f"{counted(left, 'more figure')} of {folder} would make this page too large")
            break
        found.append(Picture(title=path.stem, markup=svg_markup(path, path.stem, f"f{len(found)}-")))
        room -= path.stat().st_size
    for shows, count in drawn.left_out.items():
        notes.append(f"{folder}: {counted(count, 'more figure')} {shows}")
    if drawn.left_out:
        most = str(MOST_FIGURES + max(drawn.left_out.values()))
        notes.append(f"{shlex.join(['theriac', 'plot', str(folder), '--most', most])} draws all of them")
