"""Figures of searches whose settings are trainings: every trial, what it traded, and which one was taken."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...rows import Row
from .figure import FAINT, INK, new_figure, save_figure
from .table import describe, method_name

MARKERS = {"collapsed": "X"}
COLOURS = "viridis"
GROUP = ("dataset", "model", "attack", "manipulated", "seed")


def trial_figures(
    steps: pa.Table, searches: pa.Table, directory: Path, *, ending: str = "png", most: int | None = None
) -> tuple[Path, ...]:
    """Draw the trials of every search over hyperparameters; works while the sweep runs.

    One figure for each dataset, model, attack, |S_m| and seed, one panel for each search. Across: accuracy on
    S_f; up: agreement with the victim on retain samples that are not of a target class; the colour is
    healed_raw, which no deployable search sees. A cross is a collapsed trial; the line joins the Pareto
    front, where one was looked for; the ring is the setting that was taken.

    Args:
        steps: as `ResultsStore.read` gives them.
        searches: likewise.
        directory: where the figures go, as ``trials-<dataset>-<model>-<attack>-<|S_m|>-<seed>.png``.
        ending: "png", "svg" or "pdf".
        most: at most so many figures.
    """
    trials: dict[str, list[Row]] = defaultdict(list)
    for row in steps.to_pylist():
        if row["parameters"] is not None and row["forget_accuracy"] is not None:
            trials[row["search"]].append(row)
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in searches.to_pylist():
        if len(trials[row["key"]]) > 1:
            groups[tuple(row[name] for name in GROUP)].append(row)
    return tuple(
        save_figure(_draw(found, trials), directory / f"{_stem(place)}.{ending}")
        for place, found in islice(groups.items(), most)
    )


def _stem(place: Sequence[Any]) -> str:
    return "-".join(["trials", *(re.sub(r"[^\w.]+", "_", str(part)) for part in place)])


def _draw(searches: Sequence[Row], trials: Mapping[str, Sequence[Row]]) -> Figure:
    columns = min(4, len(searches))
    lines = -(-len(searches) // columns)
    figure = new_figure((1.6 + 3.6 * columns, 1.8 + 3.4 * lines))
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for panel, row in zip(axes, searches, strict=False):
        _panel(panel, row, trials[row["key"]])
    for panel in axes[len(searches) :]:
        panel.set_visible(False)
    figure.suptitle(describe({name: searches[0][name] for name in GROUP}), fontsize=12, color=INK)
    colours = ScalarMappable(Normalize(0, 100), COLOURS)
    figure.colorbar(colours, ax=list(axes), label="healed_raw, % (truth, not seen by the search)", shrink=0.8)
    figure.legend(handles=_handles(), loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    return figure


def _panel(panel: Axes, search: Row, trials: Sequence[Row]) -> None:
    for kind in ("o", *MARKERS.values()):
        own = [row for row in trials if MARKERS.get(row["status"], "o") == kind]
        panel.scatter(
            [100 * row["forget_accuracy"] for row in own],
            [100 * row["agreement"] for row in own],
            c=[100 * (row["healed_raw"] or 0.0) for row in own],
            marker=kind,
            cmap=COLOURS,
            vmin=0,
            vmax=100,
            s=46,
            zorder=3,
        )
    _front(panel, trials)
    _taken(panel, search, trials)
    panel.set_title(_title(search), fontsize=11, color=INK)
    panel.set_xlim(-4, 104)
    panel.set_ylim(-4, 104)
    panel.grid(color=FAINT, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_xlabel("accuracy on the found poison, %", fontsize=10, color=INK)
    panel.set_ylabel("agreement on retain, %", fontsize=10, color=INK)


def _front(panel: Axes, trials: Sequence[Row]) -> None:
    front = sorted((row["forget_accuracy"], row["agreement"]) for row in trials if row["pareto"])
    if front:
        panel.plot(*zip(*((100 * x, 100 * y) for x, y in front), strict=True), color=INK, linewidth=1.2)


def _taken(panel: Axes, search: Row, trials: Sequence[Row]) -> None:
    for row in trials:
        if search["parameters"] is not None and row["parameters"] == search["parameters"]:
            place = 100 * row["forget_accuracy"], 100 * row["agreement"]
            panel.plot(*place, "o", markersize=13, markerfacecolor="none", markeredgecolor="#D55E00")


def _title(search: Row) -> str:
    share = describe({"share": search["share"]})
    healed = "" if search["healed_raw"] is None else f", healed_raw {100 * search['healed_raw']:.1f}"
    return f"{method_name(search)}, {share}\n{search['status']}{healed}"


def _handles() -> list[Line2D]:
    plain: dict[str, Any] = {"linestyle": "", "color": INK}
    return [
        Line2D([], [], marker="o", label="trial", **plain),
        Line2D([], [], marker="X", label="collapsed", **plain),
        Line2D(
            [],
            [],
            marker="o",
            markersize=12,
            markerfacecolor="none",
            linestyle="",
            color="#D55E00",
            label="taken",
        ),
    ]
