"""What figures are drawn on: paper, axes, what stands below the panels, and the file.

Drawn through matplotlib's object-oriented interface: no window, no global state.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ....errors import BadInput
from ...store import write_atomically

FORMATS = ("png", "pdf", "svg")
INK, FAINT = "#333333", "#DDDDDD"
DPI = 100
LETTER = 0.086
"""Inches that a letter of a legend takes, on average."""
LINE, USUAL_LINES = 0.24, 3
"""Inches that a line of a legend takes, and lines for which figures have room."""
WIDE_DAMAGE = 15.0
"""Percentage points; from there on the scale of damage is linear near zero and logarithmic beyond."""


def new_figure(size: tuple[float, float]) -> Figure:
    """Make an empty figure of ``size`` in inches."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure, whole or not at all; the ending says in which format.

    Raises:
        BadInput: another ending, or the file cannot be written.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise BadInput(f"{path} does not end in .{', .'.join(FORMATS)}; choose one of these endings")
    try:
        write_atomically(path, lambda temporary: figure.savefig(temporary, format=ending, dpi=DPI))
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror or error}); name another file") from error
    return path


def frame_panel(panel: Axes) -> None:
    """Draw a grid behind the data, and no box around it."""
    panel.grid(color=FAINT, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=10, color=INK, labelcolor=INK)


def write_title(figure: Figure, text: str) -> None:
    """Write what a figure is about above it, in lines that fit."""
    width = max(40, int(figure.get_figwidth() * 9))
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, width)]
    figure.suptitle("\n".join(lines), fontsize=14, color=INK)


def write_legend(figure: Figure, handles: Sequence[Artist], notes: Sequence[str] = ()) -> None:
    """Draw a legend below the panels, with as many columns as fit, and the notes above it.

    The figure becomes higher by what a long legend takes.
    """
    width = figure.get_figwidth()
    columns = _columns([len(str(handle.get_label())) for handle in handles], width - 0.3)
    text = [part for note in notes for part in textwrap.wrap(note, int((width - 0.4) / LETTER))]
    lines = -(-len(handles) // columns) + len(text)
    figure.set_figheight(figure.get_figheight() + LINE * max(0, lines - USUAL_LINES))
    legend = figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns,
        fontsize=11,
        frameon=False,
        labelcolor=INK,
        handlelength=2.8,
        title="\n".join(text) or None,
        title_fontsize=10.5,
    )
    legend.get_title().set_color(INK)


def _columns(lengths: Sequence[int], width: float) -> int:
    """Return how many columns of labels fit into so many inches; they are filled one after another."""
    for columns in range(len(lengths), 1, -1):
        each, more = divmod(len(lengths), columns)
        ends = [each * number + min(number, more) for number in range(columns + 1)]
        taken = [max(lengths[low:high]) for low, high in pairwise(ends)]
        if sum(0.88 + LETTER * longest for longest in taken) <= width:
            return columns
    return 1


def share_scale(panels: Sequence[Axes], kinds: Sequence[object]) -> None:
    """Give panels of one kind, such as a measure, one y axis; others keep their own."""
    first: dict[object, Axes] = {}
    for panel, kind in zip(panels, kinds, strict=True):
        if kind in first:
            panel.sharey(first[kind])
        else:
            first[kind] = panel


def log_axis(panel: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic; one tick a decade is too few where it spans less than two."""
    subs = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 10 else (1.0, 2.0, 5.0)
    panel.set_xscale("log")
    panel.set_xlim(low / 1.1, high * 1.1)
    panel.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def scale_damage(
    axis: Axis, set_scale: Callable[..., Any], set_limits: Callable[..., Any], values: Sequence[float]
) -> None:
    """Scale an axis of damage: a collapsed model loses 80 points, a good method 0.3.

    Args:
        axis: x or y.
        set_scale: its panel's, of the same direction.
        set_limits: likewise.
        values: damage in percentage points, at least one.
    """
    low, high = min(values), max(values)
    if low > -WIDE_DAMAGE:
        set_limits(min(1.1 * low, -1.0), max(1.3 * high, 0.5))
    else:
        set_scale("symlog", linthresh=2, linscale=1)
        set_limits(min(1.3 * low, -2.5), max(1.6 * high, 1.0))
        axis.set_major_locator(FixedLocator([-100, -50, -20, -10, -5, -2, -1, 0, 1, 2, 5, 10]))
        axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(signed)


def signed(value: float, _: object) -> str:
    """Write a tick of damage."""
    return f"{value:+g}" if value else "0"
