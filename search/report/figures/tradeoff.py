"""What a search trades off on its way: forget accuracy, clean accuracy and healing against s."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ....errors import BadInput
from ....rows import Row
from ....unlearning.kinds import GRANULARITIES
from ...searches import with_curve
from ...settings import METHODS
from ..line_names import describe, method_name, sortable
from .canvas import INK, frame_panel, log_axis, new_figure, save_figure, write_legend, write_title
from .cells import by_context, lines_of
from .drawing import Drawing, Traces, ranks

CURVES = {
    "forget_accuracy": ("accuracy on the found poison (forget)", "#D55E00"),
    "clean_accuracy": ("clean accuracy", "#0072B2"),
    "healed_raw": ("healed_raw: triggered images classified correctly", "#009E73"),
}
"""Column -> (legend, colour); vermilion, blue and green of Okabe and Ito tell apart for colour-blind eyes."""
MARKERS = {"forget_accuracy": "o", "clean_accuracy": "s", "healed_raw": "^"}
"""Column -> marker, which tells the curves apart without colour."""
MARKED = 9
"""Points of a curve that have a marker, about."""
STEP_COLUMNS = ("search", "s", "after_stop", *CURVES)
"""Columns of ``steps`` that are drawn."""


def tradeoff_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Return a figure for each scenario, share and setting of searches that walk along s.

    Where not all are drawn, every scenario has its first seed and share before any has its second.

    Args:
        rows: of ``searches``.
    """
    shown = [row for row in rows if _has_curve(row) and (row["steps"] or row["status"] == "failed")]
    return [
        Drawing(
            place=("tradeoff", *context.file, *place, words),
            searches=tuple(row["key"] for row in some if row["steps"]),
            columns=STEP_COLUMNS,
            draw=partial(_draw, some, context.title(_place_words(place), words)),
            turn=turn,
        )
        for context, found in by_context(shown).items()
        for (place, words, turn, some) in _groups(found)
        if any(row["steps"] for row in some)
    ]


def _has_curve(row: Row) -> bool:
    return row["method"] in METHODS and row["search"] in with_curve("tradeoff")


def _groups(rows: Sequence[Row]) -> list[tuple[tuple[Any, ...], str, tuple[int, ...], list[Row]]]:
    """Group rows by |S_m|, share, seed, and what sets their settings apart; tell the turn of each."""
    groups: dict[tuple[tuple[Any, ...], str], list[Row]] = defaultdict(list)
    for label, some in lines_of(rows).items():
        words = label.partition(", ")[2]
        for row in some:
            groups[(row["manipulated"], row["share"], row["seed"]), words].append(row)
    order = sorted(groups, key=lambda key: (*map(sortable, key[0]), key[1]))
    seeds, shares = (ranks(key[0][part] for key in order) for part in (2, 1))
    return [
        (place, words, (seeds[place[2]], shares[place[1]]), groups[place, words]) for place, words in order
    ]


def _place_words(place: tuple[Any, ...]) -> str:
    return describe(dict(zip(("manipulated", "share", "seed"), place, strict=True)))


def _draw(rows: Sequence[Row], title: str, steps: Traces) -> Figure | None:
    traces = {row["key"]: _ordered(steps.get(row["key"], ())) for row in rows}
    traces = {key: trace for key, trace in traces.items() if trace}
    panels = {_panel_of(row): row for row in rows if row["key"] in traces or row["status"] == "failed"}
    return _tradeoff(panels, traces, title) if traces else None


def tradeoff_figure(steps: pa.Table, searches: pa.Table, path: str | Path) -> Path:
    """Draw forget accuracy, clean accuracy and healed_raw against s, a panel for each method and granularity.

    Rows ``after_stop`` go on dashed and pale; a line marks the stop, with its alpha and damage.

    Args:
        steps: rows of ``steps``; those of other searches are passed over.
        searches: rows of ``searches`` of one scenario and share; rows of other methods (none, eu) and of
            grids, which have no s, are passed over.
        path: where the figure goes, ``.png`` (1400 x 800 pixels for six panels), ``.pdf`` or ``.svg``.

    Raises:
        BadInput: no search with steps, several that would share a panel, or another file ending.
    """
    traces = _traces(steps)
    shown = [row for row in searches.to_pylist() if _has_curve(row)]
    panels = _panels([row for row in shown if row["key"] in traces or row["status"] == "failed"])
    if not any(row["key"] in traces for row in panels.values()):
        raise BadInput(
            "there is no search with recorded steps to draw; run ssd, lf or xlf with a PTN search first"
        )
    title = describe(next(iter(panels.values())))
    return save_figure(_tradeoff(panels, traces, title), Path(path))


def _traces(steps: pa.Table) -> dict[str, list[Row]]:
    """Group steps by search."""
    traces: dict[str, list[Row]] = defaultdict(list)
    for row in steps.to_pylist():
        traces[row["search"]].append(row)
    return {key: trace for key, rows in traces.items() if (trace := _ordered(rows))}


def _ordered(steps: Sequence[Row]) -> list[Row]:
    """Return steps in order of s, which must be positive for a logarithmic axis."""
    return sorted((row for row in steps if row["s"] is not None and row["s"] > 0), key=lambda row: row["s"])


def _panels(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    panels: dict[tuple[str, str], Row] = {}
    for row in rows:
        place = _panel_of(row)
        if place in panels:
            raise BadInput(
                f"there are several searches for {row['method']} by {place[0]} ({_about(panels[place])}; "
                f"{_about(row)}); choose the rows of one scenario, share and search"
            )
        panels[place] = row
    return panels


def _panel_of(row: Row) -> tuple[str, str]:
    return row["granularity"] or GRANULARITIES[0], row["method"]


def _about(row: Row) -> str:
    return f"{describe(row)}, {row['search']}"


def _tradeoff(
    panels: Mapping[tuple[str, str], Row], traces: Mapping[str, Sequence[Row]], title: str
) -> Figure:
    lines = [name for name in GRANULARITIES if any(place[0] == name for place in panels)]
    columns = [name for name in METHODS if any(place[1] == name for place in panels)]
    figure = new_figure((max(8.0, 14 * len(columns) / 3), 1.6 + 3.2 * len(lines)))
    axes = figure.subplots(len(lines), len(columns), sharex=True, sharey=True, squeeze=False)
    shown = [row["s"] for panel in panels.values() for row in traces.get(panel["key"], [])]
    for i, granularity in enumerate(lines):
        for j, method in enumerate(columns):
            panel, row = axes[i, j], panels.get((granularity, method))
            _frame(panel, shown, left=j == 0, bottom=i == len(lines) - 1)
            panel.set_title(_title(row, method, granularity), loc="left", fontsize=12, weight="bold", pad=24)
            _fill(panel, row, traces.get(row["key"], []) if row else [])
    write_title(figure, title)
    write_legend(figure, _handles())
    return figure


def _title(row: Row | None, method: str, granularity: str) -> str:
    name = method_name(row) if row else method.upper()
    return f"{name}, {granularity}" if not row or row["granularity"] else f"{name}"


def _frame(panel: Axes, values: Sequence[float], *, left: bool, bottom: bool) -> None:
    log_axis(panel, min(values), max(values))
    panel.set_ylim(-3, 103)
    panel.set_yticks(range(0, 101, 20))
    frame_panel(panel)
    panel.set_xlabel("s (larger dampens more)" if bottom else "", fontsize=11, color=INK)
    panel.set_ylabel("share of images, %" if left else "", fontsize=11, color=INK)


def _fill(panel: Axes, row: Row | None, trace: Sequence[Row]) -> None:
    if not row or not trace:
        reason = "not run" if not row else f"{row['status']}: {row['error_class'] or 'no steps recorded'}"
        panel.text(0.5, 0.5, reason, transform=panel.transAxes, ha="center", fontsize=11, color=INK)
        panel.grid(visible=False)
        return
    for name in CURVES:
        _curve(panel, name, [_with_outcome(step, row, name) for step in trace])
    if row["s"] is None or row["s"] <= 0 or row["status"] == "no_stop":
        _label(panel, 1.0, f"{row['status']}: no step chosen")
    else:
        _mark_stop(panel, row)


def _with_outcome(step: Row, row: Row, name: str) -> Row:
    """Return the chosen step with what was measured only once the search was over."""
    return {**step, name: row[name]} if step[name] is None and step["s"] == row["s"] else step


def _curve(panel: Axes, name: str, trace: Sequence[Row]) -> None:
    known = [row for row in trace if row[name] is not None and math.isfinite(row[name])]
    searched = [row for row in known if not row["after_stop"]]
    later = searched[-1:] + [row for row in known if row["after_stop"]]
    colour = CURVES[name][1]
    every = max(1, len(known) // MARKED)
    style: dict[str, Any] = {"color": colour, "marker": MARKERS[name], "markersize": 5, "markevery": every}
    panel.plot(*_points(searched, name), linewidth=2.2, **style)
    if len(later) > len(searched[-1:]):
        panel.plot(*_points(later, name), linewidth=1.6, linestyle=(0, (3, 1.5)), alpha=0.6, **style)


def _points(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    return [row["s"] for row in rows], [100 * row[name] for row in rows]


def _mark_stop(panel: Axes, row: Row) -> None:
    panel.axvline(row["s"], color=INK, linewidth=1.2, linestyle=":")
    for name, (_, colour) in CURVES.items():
        if row[name] is not None:
            panel.plot(row["s"], 100 * row[name], MARKERS[name], color=colour, ms=8, markeredgecolor="white")
    low, high = panel.get_xlim()
    _label(panel, math.log(row["s"] / low) / math.log(high / low), _stop_text(row))


def _stop_text(row: Row) -> str:
    parts = [f"alpha {row['alpha']:.3g}"] if row["alpha"] is not None else []
    parts += [f"damage {row['damage']:+z.1f} pp"] if row["damage"] is not None else []
    return ": ".join(
        filter(None, ["stop" if row["status"] == "stopped" else row["status"], ", ".join(parts)])
    )


def _label(panel: Axes, x: float, text: str) -> None:
    """Write above the panel, where no curve is, over ``x``: 0 left, 1 right, as far as the text fits."""
    half = 0.01 * len(text)  # of the narrowest panel, for text of this size
    panel.text(
        min(max(x, half), 1 - half),
        1.03,
        text,
        transform=panel.transAxes,
        ha="center",
        fontsize=10,
        color=INK,
    )


def _handles() -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, linewidth=2.2, marker=MARKERS[name], markersize=5, label=label)
        for name, (label, colour) in CURVES.items()
    ]
    handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=":", label="stop of the search"))
    handles.append(Line2D([], [], color=INK, alpha=0.6, linestyle=(0, (3, 1.5)), label="beyond the stop"))
    return handles
