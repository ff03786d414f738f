"""Figures of guarded searches: the flips each walked along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ....rows import Row
from ...searches import with_curve
from ..line_names import describe, method_name
from .canvas import FAINT, INK, frame_panel, log_axis, new_figure, write_legend, write_title
from .cells import PLACE, lines_of
from .drawing import Drawing, Traces, ranks
from .styles import INDIGO, PINK, VERMILION
from .tradeoff import CURVES, MARKERS

HEALED = {"suspected_healed": ("suspected samples healed", PINK)}
FLIPS = {
    "flips_target": ("flips, retain of the target classes", VERMILION),
    "flips_other": ("flips, retain of other classes", INDIGO),
}
TRUTH = {name: CURVES[name] for name in ("clean_accuracy", "healed_raw")}
"""Column of steps -> (legend, colour), panel by panel."""
SHAPES = {**MARKERS, "suspected_healed": "o", "flips_target": "o", "flips_other": "D"}
"""Column of steps -> marker, which tells the curves of a panel apart without colour."""
CROSSED = (*FLIPS, "clean_accuracy")
"""What a rejected step is shown by."""
CROSSES = {"rejected": "x", "left_out": "X"}
"""Status of a step that was not accepted -> marker."""
SEARCH = (*PLACE, "manipulated", "share", "seed", "method", "granularity")
NAMED = 3
"""Weights left out that a figure names."""
STEEP = 8.0
"""Percent of flips; from there on their scale is linear near zero and logarithmic beyond."""
STEP_COLUMNS = ("search", "step", "alpha", "dampened", "status", "left_out", *HEALED, *FLIPS, *TRUTH)
"""Columns of ``steps`` that are drawn."""


def flip_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Return a figure for every guarded search that has steps.

    Across: weights dampened. Above: suspected samples healed; below: flips of retain. The lines join accepted
    steps; scouted steps are hollow; a thin cross is a step that was rejected, a bold one, with a line to it,
    one whose last weight was left out. The band is the interval in which the score is flat, the dotted line
    the stop. Where held-out truth was measured along the steps, a last panel shows it.

    Args:
        rows: of ``searches``.
    """
    shown = [row for row in rows if row["search"] in with_curve("flips") and row["steps"] != 0]
    words = {row["key"]: label.partition(", ")[2] for label, some in lines_of(shown).items() for row in some}
    seeds, shares = (ranks(row[name] for row in shown) for name in ("seed", "share"))
    return [
        Drawing(
            place=(row["search"], *(row[name] for name in SEARCH), words[row["key"]]),
            searches=(row["key"],),
            columns=STEP_COLUMNS,
            draw=partial(_draw, row, words[row["key"]]),
            turn=(seeds[row["seed"]], shares[row["share"]]),
        )
        for row in shown
    ]


def _draw(search: Row, words: str, steps: Traces) -> Figure | None:
    found = steps.get(search["key"], ())
    trace = [row for row in found if row["suspected_healed"] is not None and row["dampened"]]
    return _curves(search, words, sorted(trace, key=lambda step: step["step"])) if trace else None


def _curves(search: Row, words: str, trace: Sequence[Row]) -> Figure:
    trace = [_with_outcome(step, search) for step in trace]
    kinds = [HEALED, FLIPS, TRUTH] if _has_truth(trace) else [HEALED, FLIPS]
    figure = new_figure((9.5, 2.6 + 2.3 * len(kinds)))
    panels = figure.subplots(len(kinds), 1, sharex=True, height_ratios=[1.0, 1.5, 1.0][: len(kinds)])
    log_axis(panels[0], min(row["dampened"] for row in trace), max(row["dampened"] for row in trace))
    for panel, kind in zip(panels, kinds, strict=True):
        frame_panel(panel)
        _flat_and_stop(panel, search, trace)
        for column, (_, colour) in kind.items():
            _curve(panel, column, colour, [row for row in trace if row[column] is not None])
    _scales(panels, trace)
    panels[-1].set_xlabel("weights dampened", fontsize=11, color=INK)
    panels[0].set_title(_outcome(search), loc="left", fontsize=11, color=INK)
    panels[1].set_title(_left_out(search, trace), loc="left", fontsize=10, color=INK)
    write_title(figure, _title(search, words))
    write_legend(figure, _handles(kinds, search, trace))
    return figure


def _with_outcome(step: Row, search: Row) -> Row:
    """Return the chosen step with what was measured only once the search was over."""
    if step["status"] != "accepted" or step["alpha"] != search["alpha"]:
        return step
    return {**step, **{name: search[name] for name in TRUTH if step[name] is None}}


def _has_truth(trace: Sequence[Row]) -> bool:
    """Tell whether there is a curve, not the stop alone."""
    return sum(all(row[name] is not None for name in TRUTH) for row in trace) > 1


def _flat_and_stop(panel: Axes, search: Row, trace: Sequence[Row]) -> None:
    flat = _flat(search, trace)
    if flat:
        panel.axvspan(*flat, color=FAINT, alpha=0.6, linewidth=0, zorder=0)
    if _stopped(search):
        panel.axvline(search["dampened"], color=INK, linewidth=1.2, linestyle=":")


def _flat(search: Row, trace: Sequence[Row]) -> tuple[int, int] | None:
    """Tell from how many to how many weights the score is flat; None where that is a single step."""
    if search["flat"] is None:
        return None
    low, high = search["flat"]
    counts = [r["dampened"] for r in trace if r["status"] == "accepted" and low <= r["alpha"] <= high]
    return (min(counts), max(counts)) if len(set(counts)) > 1 else None


def _stopped(search: Row) -> bool:
    return bool(search["dampened"]) and search["status"] != "no_stop"


def _curve(panel: Axes, column: str, colour: str, trace: Sequence[Row]) -> None:
    walked = [row for row in trace if row["status"] == "accepted"]
    scouted = [row for row in trace if row["status"] == "scouted"]
    panel.plot(*_points(walked, column), color=colour, linewidth=2.0, marker=SHAPES[column], ms=4.5)
    panel.plot(*_points(scouted, column), SHAPES[column], color=colour, markersize=6, markerfacecolor="white")
    if column in CROSSED:
        _crosses(panel, column, colour, trace)


def _crosses(panel: Axes, column: str, colour: str, trace: Sequence[Row]) -> None:
    for status, marker in CROSSES.items():
        found = [row for row in trace if row["status"] == status]
        size = 8 if status == "left_out" else 6
        panel.plot(*_points(found, column), marker, color=colour, markersize=size, zorder=4)
    before: list[Row] = []
    for row in trace:
        if row["status"] == "left_out":
            panel.plot(*_points([*before, row], column), color=colour, linewidth=1.2, alpha=0.6)
        elif row["status"] == "accepted":
            before = [row]


def _points(rows: Sequence[Row], column: str) -> tuple[list[int], list[float]]:
    return [row["dampened"] for row in rows], [100 * row[column] for row in rows]


def _scales(panels: Sequence[Axes], trace: Sequence[Row]) -> None:
    panels[0].set_ylim(-4, 104)
    panels[0].set_ylabel("healed, %", fontsize=11, color=INK)
    _flips_scale(panels[1], [100 * row[name] for row in trace for name in FLIPS if row[name] is not None])
    for panel in panels[2:]:
        panel.set_ylabel("held-out truth, %\n(not seen by\nthe search)", fontsize=11, color=INK)


def _flips_scale(panel: Axes, values: Sequence[float]) -> None:
    """Scale the axis of flips, of which a jump goes to 60 % and what is accepted stays below 3.

    One linear scale cannot show both.
    """
    panel.set_ylabel("changed predictions\nof retain, %", fontsize=11, color=INK)
    if not values:
        panel.set_yticks([])
        panel.text(0.5, 0.5, "only scouted", transform=panel.transAxes, ha="center", fontsize=11, color=INK)
        return
    highest = max(values)
    if highest <= STEEP:
        panel.set_ylim(-0.04 * max(highest, 1.0), 1.1 * max(highest, 1.0))
        return
    panel.set_yscale("symlog", linthresh=1, linscale=0.6)
    panel.set_ylim(-0.1, 1.4 * highest)
    panel.yaxis.set_major_locator(FixedLocator([0, 0.5, 1, 2, 5, 10, 20, 50, 100]))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _title(search: Row, words: str) -> str:
    kind = f" by {search['granularity']}" if search["granularity"] else ""
    name = ", ".join(filter(None, (f"{method_name(search)}{kind}", words)))
    return f"{name}\n{describe({name: search[name] for name in SEARCH[:6]})}"


def _outcome(search: Row) -> str:
    """Tell what the search ended with, and what it was worth where that is known."""
    suspects = (
        "" if search["suspects"] is None else f"suspected: found poison, and {search['suspects']:,} of retain"
    )
    if not _stopped(search):
        return "; ".join(filter(None, [f"{search['status']}: no step chosen", suspects]))
    parts = [f"{search['dampened']:,} weights dampened"]
    parts += [f"damage {search['damage']:+z.1f} pp"] if search["damage"] is not None else []
    parts += [f"healed {search['healed']:.1f} %"] if search["healed"] is not None else []
    parts += [f"ASR {100 * search['asr']:.1f} %"] if search["asr"] is not None else []
    stop = "stop" if search["status"] == "stopped" else search["status"]
    return "\n".join(filter(None, [f"{stop}: {', '.join(parts)}", suspects]))


def _left_out(search: Row, trace: Sequence[Row]) -> str:
    """Name the weights left out at the stop; without one, at the end."""
    stopped = _stopped(search)
    names = ((search if stopped else trace[-1])["left_out"] or "").split()
    more = f" +{len(names) - NAMED}" if len(names) > NAMED else ""
    where = "left out at the stop" if stopped else "left out"
    return f"{where}: {', '.join(names[:NAMED])}{more}" if names else ""


def _handles(
    kinds: Sequence[Mapping[str, tuple[str, str]]], search: Row, trace: Sequence[Row]
) -> list[Line2D | Patch]:
    known = {name for row in trace for name, value in row.items() if value is not None}
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, linewidth=2.0, marker=SHAPES[name], markersize=4.5, label=label)
        for kind in kinds
        for name, (label, colour) in kind.items()
        if name in known
    ]
    handles += _mark_handles({row["status"] for row in trace})
    if _flat(search, trace):
        handles.append(Patch(color=FAINT, label="score cannot be told from the best"))
    if _stopped(search):
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=":", label="stop of the search"))
    return handles


def _mark_handles(statuses: set[str]) -> list[Line2D | Patch]:
    style: dict[str, Any] = {"linestyle": "", "color": INK}
    marks = {
        "scouted": Line2D([], [], marker="o", markerfacecolor="white", label="scouting", **style),
        "rejected": Line2D([], [], marker="x", label="rejected: flips jump, the step is halved", **style),
        "left_out": Line2D([], [], marker="X", label="one weight makes it jump: left out", **style),
    }
    return [mark for name, mark in marks.items() if name in statuses]
