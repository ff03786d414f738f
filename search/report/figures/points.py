"""Points, lines and their legends: what became of a search is seen at its marker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ....rows import Row
from .canvas import INK
from .cells import by_seed
from .intervals import Mean, mean_of
from .styles import Style

THIN, HALO, THICK = 1.8, 2.2, 8.4
"""Points: a line, what it is wider by for each that lies above it, and the widest."""
CLOSE = 0.015
"""Of the range of a panel: lines that are as close cannot be told apart."""
FEW = 6
"""Lines; fewer of them do not take all the room."""
MANY = 2000
"""Points; more of them are pixels also in PDF and SVG."""


@dataclass(frozen=True)
class Point:
    """A point of a figure.

    Attributes:
        x: place across.
        y: place up.
        statuses: what became of the searches behind it.
    """

    x: float
    y: float
    statuses: frozenset[str]


@dataclass(frozen=True)
class Averaged:
    """A point that stands for several seeds.

    Attributes:
        mean: over seeds, and its interval.
        statuses: what became of the searches behind it.
    """

    mean: Mean
    statuses: frozenset[str]

    @classmethod
    def of(cls, rows: Sequence[Row], measure: str) -> Averaged:
        """Average rows that differ in the seed alone."""
        return cls(mean_of(by_seed(rows, measure)), frozenset(row["status"] for row in rows))


def draw_averages(
    panel: Axes, points: Mapping[float, Averaged], style: Style, width: float, *, above: float = 0.0
) -> None:
    """Draw a line through means, with bars for their intervals and the marks of `mark_points`.

    Args:
        panel: to draw on.
        points: place across -> what is there, from left to right.
        style: of the line.
        width: of the line, in points.
        above: how far up it lies among others.
    """
    if not points:
        return
    look: dict[str, Any] = {"color": style.colour, "linestyle": style.dashes, "linewidth": width}
    panel.plot(list(points), [one.mean.mean for one in points.values()], zorder=2 + above, **look)
    several = [(x, one.mean.low, one.mean.high) for x, one in points.items() if one.mean.n > 1]
    if several:
        panel.vlines(*zip(*several, strict=True), color=style.colour, linewidth=1.2, alpha=0.75, zorder=1.9)
    marks = [Point(x, one.mean.mean, one.statuses) for x, one in points.items()]
    mark_points(panel, marks, style, above=above)


def mark_points(panel: Axes, points: Sequence[Point], style: Style, *, above: float = 0.0) -> None:
    """Draw points; hollow where any victim was left as it was, crossed where any model collapsed.

    Args:
        panel: to draw on.
        points: of one method.
        style: of the method.
        above: how far up the markers lie among those of other methods.
    """
    hollow = [point for point in points if "no_stop" in point.statuses]
    filled = [point for point in points if "no_stop" not in point.statuses]
    collapsed = [point for point in points if "collapsed" in point.statuses]
    for some, face, edge in ((filled, style.colour, "white"), (hollow, "white", style.colour)):
        look = {"color": style.colour, "markersize": style.size, "mfc": face, "mec": edge}
        width = 0.5 if edge == "white" else 1.0
        _draw(panel, some, style.marker, mew=width, zorder=3 + above, **look)
    _draw(panel, collapsed, "x", color=INK, markersize=9, markeredgewidth=1.8, zorder=4 + above)


def _draw(panel: Axes, points: Sequence[Point], marker: Any, **look: Any) -> None:
    if points:
        places = [point.x for point in points], [point.y for point in points]
        panel.plot(*places, marker=marker, linestyle="", rasterized=len(points) > MANY, **look)


def line_widths(lines: Mapping[str, Mapping[int, Averaged]]) -> dict[str, float]:
    """Return the width of each line; one that lies below others is wider, and is seen at both their sides.

    Args:
        lines: label -> place across -> what is there; the first lies above all others.
    """
    means = {label: {x: one.mean.mean for x, one in points.items()} for label, points in lines.items()}
    every = [mean for points in means.values() for mean in points.values()]
    near = CLOSE * (max(every) - min(every)) if every else 0.0
    labels = list(lines)
    above = {
        label: sum(_coincide(means[label], means[other], near) for other in labels[:number])
        for number, label in enumerate(labels)
    }
    return {label: min(THICK, THIN + HALO * count) for label, count in above.items()}


def _coincide(one: Mapping[int, float], other: Mapping[int, float], near: float) -> bool:
    """Tell whether two lines are the same at half of the places that both have."""
    common = one.keys() & other.keys()
    same = sum(abs(one[x] - other[x]) <= near for x in common)
    return len(common) > 1 and 2 * same >= len(common)


def dodges(labels: Sequence[str], room: float) -> dict[str, float]:
    """Return the shift of each line that puts markers beside each other, within ``room`` in all."""
    step = room / max(FEW, len(labels) - 1)
    middle = 0.5 * (len(labels) - 1)
    return {label: step * (number - middle) for number, label in enumerate(labels)}


def method_handles(styles: Mapping[str, Style], *, lines: bool = True) -> list[Line2D]:
    """Return the methods of a legend."""
    return [
        Line2D(
            [],
            [],
            color=style.colour,
            marker=style.marker,
            markersize=style.size,
            linestyle=style.dashes if lines else "",
            linewidth=THIN,
            label=label,
        )
        for label, style in styles.items()
    ]


def mark_handles(statuses: Iterable[str]) -> list[Line2D]:
    """Return what is unusual about points, for a legend."""
    style: dict[str, Any] = {"linestyle": "", "color": INK}
    hollow = Line2D([], [], marker="o", markerfacecolor="white", label="no stop", **style)
    cross = Line2D([], [], marker="x", markersize=9, markeredgewidth=1.8, label="collapsed", **style)
    known = set(statuses)
    return [mark for name, mark in (("no_stop", hollow), ("collapsed", cross)) if name in known]
