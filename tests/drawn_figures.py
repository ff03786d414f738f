"""Draws figures in tests, without a results folder, and looks at what was drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib.text
import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from theriac.search.report.figures.canvas import save_figure
from theriac.search.report.figures.drawing import Drawing, file_names
from theriac.search.store.schemas import SCHEMAS

Row = dict[str, Any]


def whole(table: str, rows: Sequence[Row]) -> list[Row]:
    """The rows with all columns of their table."""
    names = SCHEMAS[table].names
    for row in rows:
        assert not row.keys() - set(names), row.keys() - set(names)
    return [{**dict.fromkeys(names), **row} for row in rows]


def draw(
    kind: Callable[[Sequence[Row]], list[Drawing]],
    directory: Path,
    searches: Sequence[Row],
    steps: Sequence[Row] = (),
    ending: str = "png",
) -> tuple[Path, ...]:
    """Draw all figures of a kind."""
    traces: dict[str, list[Row]] = defaultdict(list)
    for row in whole("steps", steps):
        traces[row["search"]].append(row)
    drawings = kind(whole("searches", searches))
    found = [(name, one.draw(traces)) for name, one in zip(names_of(drawings), drawings, strict=True)]
    return tuple(save_figure(figure, directory / f"{name}.{ending}") for name, figure in found if figure)


def names_of(drawings: Sequence[Drawing]) -> list[str]:
    return file_names(one.place for one in drawings)


def table(name: str, rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMAS[name])


def texts(item: Any) -> list[str]:
    return [text.get_text() for text in item.findobj(matplotlib.text.Text) if text.get_text()]


def legend_of(figure: Figure) -> list[str]:
    """The labels of the legend, without the notes above it."""
    return [text.get_text() for text in figure.legends[0].get_texts()]


def notes_of(figure: Figure) -> str:
    return " ".join(figure.legends[0].get_title().get_text().split())


def drawn_texts(figure: Figure) -> Iterator[matplotlib.text.Text]:
    """All but the labels of ticks outside the view, which matplotlib keeps and does not draw."""
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            yield from [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]
    inside = {id(text) for panel in figure.axes for text in (*panel.xaxis.findobj(), *panel.yaxis.findobj())}
    labels = {id(axis.label) for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)}
    for text in figure.findobj(matplotlib.text.Text):
        known = isinstance(text, matplotlib.text.Text) and (id(text) not in inside or id(text) in labels)
        if known and text.get_text() and text.get_visible():
            yield text


def check_texts(figure: Figure, smallest: float = 10.0) -> None:
    """Check that no text overlaps another, leaves the figure or is too small to be read."""
    shown = list(drawn_texts(figure))
    assert len(shown) > 5
    assert min(float(text.get_fontsize()) for text in shown) >= smallest
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    assert [(a, b) for (a, one), (b, two) in combinations(boxes, 2) if one.overlaps(two)] == []
    whole = figure.bbox
    outside = [
        text
        for text, box in boxes
        if box.x0 < whole.x0 or box.x1 > whole.x1 or box.y0 < whole.y0 or box.y1 > whole.y1
    ]
    assert outside == []


def points_of(panel: Axes, colour: str, marker: Any, face: str | None = None) -> list[tuple[float, float]]:
    """The points drawn with a marker; hollow ones with ``face`` "white"."""
    found = [
        line
        for line in panel.lines
        if line.get_marker() == marker
        and line.get_linestyle() == "None"
        and line.get_color() == colour
        and (face is None or line.get_markerfacecolor() == face)
    ]
    return [(float(x), float(y)) for line in found for x, y in np.asarray(line.get_xydata())]
