"""Figures of searches whose settings are trainings: every trial, what it traded, and which one was taken."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ....rows import Row
from ...training import TRAINED_METHODS
from ..line_names import describe
from .canvas import INK, frame_panel, new_figure, write_legend, write_title
from .cells import by_context, lines_of
from .drawing import Drawing, Traces, pieces, ranks
from .styles import GREY, VERMILION

MARKERS = {"collapsed": "X"}
COLOURS = "viridis"
STEP_COLUMNS = ("search", "parameters", "status", "forget_accuracy", "agreement", "healed_raw", "pareto")
"""Columns of ``steps`` that are drawn."""
MOST_PANELS = 12
"""Searches in a figure; what is more goes into further figures."""


def trial_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Return the figures of trials of searches over hyperparameters.

    One figure for each dataset, model, attack, setup, |S_m| and seed, one panel for each search. Across:
    accuracy on S_f; up: agreement with the victim on retain samples that are not of a target class; the
    colour is healed_raw, which no deployable search sees. A cross is a collapsed trial; the line joins the
    Pareto front, where one was looked for; the ring is the setting that was taken.

    Args:
        rows: of ``searches``.
    """
    shown = [row for row in rows if row["method"] in TRAINED_METHODS and (row["steps"] or 2) > 1]
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for context, found in by_context(shown).items():
        for row in found:
            groups[context, row["manipulated"], row["seed"]].append(row)
    seeds = ranks(row["seed"] for row in shown)
    return [
        Drawing(
            place=("trials", *context.place, size, seed, context.words.split(",")[0]),
            searches=tuple(row["key"] for row in some[page]),
            columns=STEP_COLUMNS,
            draw=partial(_found, some[page], context.title(describe({"manipulated": size, "seed": seed}))),
            turn=(seeds[seed], number),
        )
        for (context, size, seed), some in groups.items()
        for number, page in enumerate(pieces(some, MOST_PANELS))
    ]


def _found(searches: Sequence[Row], title: str, steps: Traces) -> Figure | None:
    trials = {
        row["key"]: [
            step
            for step in steps.get(row["key"], ())
            if step["parameters"] is not None and step["forget_accuracy"] is not None
        ]
        for row in searches
    }
    shown = [row for row in searches if len(trials[row["key"]]) > 1]
    return _draw(shown, trials, title) if shown else None


def _draw(searches: Sequence[Row], trials: Mapping[str, Sequence[Row]], title: str) -> Figure:
    columns = min(4, len(searches))
    lines = -(-len(searches) // columns)
    figure = new_figure((1.6 + 3.6 * columns, 1.8 + 3.4 * lines))
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    labels = {row["key"]: label for label, rows in lines_of(searches).items() for row in rows}
    for panel, row in zip(axes, searches, strict=False):
        _panel(panel, row, labels[row["key"]], trials[row["key"]])
    for panel in axes[len(searches) :]:
        panel.set_visible(False)
    write_title(figure, title)
    colours = ScalarMappable(Normalize(0, 100), COLOURS)
    figure.colorbar(colours, ax=list(axes), label="healed_raw, % (truth, not seen by the search)", shrink=0.8)
    write_legend(figure, _handles([row for search in searches for row in trials[search["key"]]]))
    return figure


def _panel(panel: Axes, search: Row, label: str, trials: Sequence[Row]) -> None:
    for kind in ("o", *MARKERS.values()):
        _trials(panel, [row for row in trials if MARKERS.get(row["status"], "o") == kind], kind)
    _front(panel, trials)
    _taken(panel, search, trials)
    panel.set_title(_title(search, label), fontsize=11, color=INK)
    panel.set_xlim(-4, 104)
    panel.set_ylim(-4, 104)
    frame_panel(panel)
    panel.set_xlabel("accuracy on the found poison, %", fontsize=10, color=INK)
    panel.set_ylabel("agreement on retain, %", fontsize=10, color=INK)


def _trials(panel: Axes, trials: Sequence[Row], marker: str) -> None:
    known = [row for row in trials if row["healed_raw"] is not None]
    colours = [100 * row["healed_raw"] for row in known]
    style: dict[str, Any] = {"marker": marker, "s": 46, "zorder": 3}
    panel.scatter(*_places(known), c=colours, cmap=COLOURS, vmin=0, vmax=100, **style)
    bare = [row for row in trials if row["healed_raw"] is None]
    panel.scatter(*_places(bare), facecolors="white", edgecolors=GREY, **style)


def _places(trials: Sequence[Row]) -> tuple[list[float], list[float]]:
    return [100 * row["forget_accuracy"] for row in trials], [100 * row["agreement"] for row in trials]


def _front(panel: Axes, trials: Sequence[Row]) -> None:
    front = sorted((row["forget_accuracy"], row["agreement"]) for row in trials if row["pareto"])
    if front:
        panel.plot(*zip(*((100 * x, 100 * y) for x, y in front), strict=True), color=INK, linewidth=1.2)


def _taken(panel: Axes, search: Row, trials: Sequence[Row]) -> None:
    for row in trials:
        if search["parameters"] is not None and row["parameters"] == search["parameters"]:
            place = 100 * row["forget_accuracy"], 100 * row["agreement"]
            panel.plot(*place, "o", markersize=13, markerfacecolor="none", markeredgecolor=VERMILION)


def _title(search: Row, label: str) -> str:
    share = describe({"share": search["share"]})
    healed = "" if search["healed_raw"] is None else f", healed_raw {100 * search['healed_raw']:.1f}"
    return f"{label}, {share}\n{search['status']}{healed}"


def _handles(trials: Sequence[Row]) -> list[Line2D]:
    plain: dict[str, Any] = {"linestyle": "", "color": INK}
    ring: dict[str, Any] = {"markersize": 12, "markeredgecolor": VERMILION, "markerfacecolor": "none"}
    hollow: dict[str, Any] = {"markeredgecolor": GREY, "markerfacecolor": "white"}
    bare = any(row["healed_raw"] is None for row in trials)
    front = any(row["pareto"] for row in trials)
    return [
        Line2D([], [], marker="o", label="trial", **plain),
        Line2D([], [], marker="X", label="collapsed", **plain),
        *([Line2D([], [], marker="o", label="healed_raw not measured", **plain, **hollow)] if bare else []),
        Line2D([], [], marker="o", label="taken", **plain, **ring),
        *([Line2D([], [], color=INK, linewidth=1.2, label="Pareto front")] if front else []),
    ]
