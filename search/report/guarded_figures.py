"""Figures of guarded searches: the flips each walked along; and healed against damage, of all methods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ...rows import Row
from ..searches import with_curve
from .figure import CURVES, FAINT, INK, log_axis, new_figure, save_figure
from .sweep_figures import (
    GROUP,
    by_method,
    file_names,
    healing_shown,
    is_scored,
    mark_handles,
    mark_outcome,
    method_handles,
    method_style,
    scale_damage,
    signed,
)
from .table import describe, method_name

HEALED = {"suspected_healed": ("suspected samples healed", "#CC79A7")}
FLIPS = {
    "flips_target": ("flips, retain of the target classes", "#D55E00"),
    "flips_other": ("flips, retain of other classes", "#56B4E9"),
}
TRUTH = {name: CURVES[name] for name in ("clean_accuracy", "healed_raw")}
"""Column of steps -> (legend, colour), panel by panel."""
CROSSED = (*FLIPS, "clean_accuracy")
"""What a rejected step is shown by."""
CROSSES = {"rejected": "x", "left_out": "X"}
"""Status of a step that was not accepted -> marker."""
PLACE = (*GROUP, "manipulated", "share", "seed", "method", "granularity")
NAMED = 3
"""Weights left out that a figure names."""
STEEP = 8.0
"""Percent of flips; from there on their scale is linear near zero and logarithmic beyond."""
AIM = (98.0, -0.5)
"""Healed, in percent, and damage, in percentage points, that the box of `healing_figures` begins at."""
NEAR = (85.0, -3.0)
"""Likewise, of the panel that shows the surroundings of the box."""


def guard_figures(
    steps: pa.Table, searches: pa.Table, directory: Path, *, ending: str = "png", most: int | None = None
) -> tuple[Path, ...]:
    """Draw every guarded search that has steps; works while the sweep runs.

    Across: weights dampened. Above: suspected samples healed; below: flips of retain. The lines join accepted
    steps; scouted steps are hollow; a thin cross is a step that was rejected, a bold one, with a line to it,
    one whose last weight was left out. The band is the interval in which the score is flat, the dotted line
    the stop. Where held-out truth was measured along the steps, a last panel shows it.

    Args:
        steps: as `ResultsStore.read` gives them.
        searches: likewise.
        directory: where the figures go, as
            ``guarded-<dataset>-<model>-<attack>-<|S_m|>-<share>-<seed>-<method>-<granularity>.png``.
        ending: "png", "svg" or "pdf".
        most: at most so many figures.
    """
    traces: dict[str, list[Row]] = defaultdict(list)
    for row in steps.to_pylist():
        if row["suspected_healed"] is not None and row["dampened"]:
            traces[row["search"]].append(row)
    shown = [
        row for row in searches.to_pylist() if row["search"] in with_curve("flips") and traces[row["key"]]
    ][:most]
    names = file_names([(row["search"], *(row[name] for name in PLACE)) for row in shown])
    return tuple(
        save_figure(_curves(row, sorted(traces[row["key"]], key=lambda step: step["step"])), path)
        for row, path in zip(shown, (directory / f"{name}.{ending}" for name in names), strict=True)
    )


def healing_figures(
    searches: pa.Table, directory: Path, *, ending: str = "png", most: int | None = None
) -> tuple[Path, ...]:
    """Draw what every cell healed against the damage it did, a colour and marker for each method.

    A hollow marker is a victim left as it was (no stop), a cross a collapsed model. The box is what one would
    like: healed at least 98 % and damage at least -0.5; where cells lie near it, and others do not, a second
    panel shows its surroundings. Where a cell has no ``healed``, all show ``healed_raw``,
    and there is no box.

    Args:
        searches: as `ResultsStore.read` gives them; failed cells are passed over.
        directory: where the figures go, as ``healed-damage-<dataset>-<model>-<attack>.png``.
        ending: "png", "svg" or "pdf".
        most: at most so many figures.
    """
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in filter(is_scored, searches.to_pylist()):
        groups[tuple(row[name] for name in GROUP)].append(row)
    names = file_names([("healed", "damage", *place) for place in groups])
    return tuple(
        save_figure(_healing(rows), directory / f"{name}.{ending}")
        for name, rows in islice(zip(names, groups.values(), strict=True), most)
    )


def _curves(search: Row, trace: Sequence[Row]) -> Figure:
    trace = [_with_outcome(step, search) for step in trace]
    kinds = [HEALED, FLIPS, TRUTH] if _has_truth(trace) else [HEALED, FLIPS]
    figure = new_figure((9.5, 2.6 + 2.3 * len(kinds)))
    panels = figure.subplots(len(kinds), 1, sharex=True, height_ratios=[1.0, 1.5, 1.0][: len(kinds)])
    log_axis(panels[0], min(row["dampened"] for row in trace), max(row["dampened"] for row in trace))
    for panel, kind in zip(panels, kinds, strict=True):
        _frame(panel)
        _flat_and_stop(panel, search, trace)
        for column, (_, colour) in kind.items():
            _curve(panel, column, colour, [row for row in trace if row[column] is not None])
    _scales(panels, trace)
    panels[-1].set_xlabel("weights dampened", fontsize=11, color=INK)
    panels[0].set_title(_outcome(search), loc="left", fontsize=11, color=INK)
    panels[1].set_title(_left_out(search, trace), loc="left", fontsize=10, color=INK)
    figure.suptitle(_title(search), fontsize=14, color=INK)
    _legend(figure, kinds, search, trace)
    return figure


def _with_outcome(step: Row, search: Row) -> Row:
    """Return the chosen step with what was measured only once the search was over."""
    if step["status"] != "accepted" or step["alpha"] != search["alpha"]:
        return step
    return {**step, **{name: search[name] for name in TRUTH if step[name] is None}}


def _has_truth(trace: Sequence[Row]) -> bool:
    """Tell whether there is a curve, not the stop alone."""
    return sum(all(row[name] is not None for name in TRUTH) for row in trace) > 1


def _frame(panel: Axes) -> None:
    panel.grid(color=FAINT, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=10, color=INK, labelcolor=INK)


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
    panel.plot(*_points(walked, column), color=colour, linewidth=2.0, marker="o", markersize=4)
    panel.plot(*_points(scouted, column), "o", color=colour, markersize=6, markerfacecolor="white")
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


def _title(search: Row) -> str:
    kind = f" by {search['granularity']}" if search["granularity"] else ""
    return f"{method_name(search)}{kind}\n{describe({name: search[name] for name in PLACE[:6]})}"


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


def _legend(
    figure: Figure, kinds: Sequence[Mapping[str, tuple[str, str]]], search: Row, trace: Sequence[Row]
) -> None:
    known = {name for row in trace for name, value in row.items() if value is not None}
    curves = [curve for kind in kinds for name, curve in kind.items() if name in known]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=colour, linewidth=2.0, marker="o", markersize=4, label=label)
        for label, colour in curves
    ]
    handles += _mark_handles({row["status"] for row in trace})
    if _flat(search, trace):
        handles.append(Patch(color=FAINT, label="score cannot be told from the best"))
    if _stopped(search):
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=":", label="stop of the search"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=2, fontsize=10, frameon=False, labelcolor=INK
    )


def _mark_handles(statuses: set[str]) -> list[Line2D | Patch]:
    style: dict[str, Any] = {"linestyle": "", "color": INK}
    marks = {
        "scouted": Line2D([], [], marker="o", markerfacecolor="white", label="scouting", **style),
        "rejected": Line2D([], [], marker="x", label="rejected: flips jump, the step is halved", **style),
        "left_out": Line2D([], [], marker="X", label="one weight makes it jump: left out", **style),
    }
    return [mark for name, mark in marks.items() if name in statuses]


def _healing(rows: Sequence[Row]) -> Figure:
    measure, label = healing_shown(rows)
    near = [row for row in rows if measure == "healed" and _inside(row, NEAR)]
    split = 0 < len(near) < len(rows)
    figure = new_figure((13.0 if split else 7.5, 6.4))
    panels = figure.subplots(1, 1 + split, squeeze=False)[0]
    for panel in panels:
        _frame(panel)
        _cells(panel, rows, measure)
        panel.set_xlabel("damage: change of clean accuracy, pp", fontsize=11, color=INK)
    panels[0].set_ylabel(label, fontsize=11, color=INK)
    _whole(panels[0], rows, measure)
    if split:
        _close(panels[1], near)
    figure.suptitle(describe({name: rows[0][name] for name in GROUP}), fontsize=14, color=INK)
    _method_legend(figure, rows, 5 if split else 4)
    return figure


def _inside(row: Row, corner: tuple[float, float]) -> bool:
    return bool(row["healed"] >= corner[0] and row["damage"] >= corner[1])


def _cells(panel: Axes, rows: Sequence[Row], measure: str) -> None:
    scale = 100 if measure == "healed_raw" else 1
    panel.axvline(0, color=INK, linewidth=0.8, alpha=0.5)
    if measure == "healed":
        healed, damage = AIM
        panel.add_patch(
            Rectangle((damage, healed), 200, 200, color="#009E73", alpha=0.12, linewidth=0, zorder=0)
        )
    for name, group in reversed(by_method(rows).items()):  # the first of the legend on top
        colour, marker, _ = method_style(name)
        for row in group:
            mark_outcome(panel, row["damage"], scale * row[measure], colour, marker, {row["status"]})


def _whole(panel: Axes, rows: Sequence[Row], measure: str) -> None:
    scale = 100 if measure == "healed_raw" else 1
    panel.set_ylim(-4, max(104.0, 1.04 * max(scale * row[measure] for row in rows)))
    scale_damage(panel.xaxis, panel.set_xscale, panel.set_xlim, [row["damage"] for row in rows])


def _close(panel: Axes, near: Sequence[Row]) -> None:
    panel.set_title("near the aim", loc="left", fontsize=11, color=INK)
    panel.set_ylim(NEAR[0], max(102.0, 1.01 * max(row["healed"] for row in near)))
    panel.set_xlim(NEAR[1], max(1.0, 1.1 * max(row["damage"] for row in near)))
    panel.xaxis.set_major_formatter(signed)


def _method_legend(figure: Figure, rows: Sequence[Row], columns: int) -> None:
    methods = method_handles(rows)
    for handle in methods:
        handle.set_linestyle("")
    handles: list[Line2D | Patch] = [*methods, *mark_handles({row["status"] for row in rows})]
    if healing_shown(rows)[0] == "healed":
        label = f"healed ≥ {AIM[0]:g} %, damage ≥ {AIM[1]:g} pp"
        handles.append(Patch(color="#009E73", alpha=0.12, label=label))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=11, frameon=False, labelcolor=INK
    )
