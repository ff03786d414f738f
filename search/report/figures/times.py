"""What methods take: seconds by phase, stacked bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ....rows import Row
from ..line_names import describe
from .canvas import FAINT, INK, frame_panel, new_figure, write_legend, write_title
from .cells import ONE_SHOT, Context, by_context, is_scored, lines_of, share_order
from .drawing import Drawing, Traces
from .styles import BLUE, GREEN, GREY, VERMILION

PHASES = {
    "seconds_victim": ("training of the victim, once for all", GREY, "//"),
    "seconds_importance": ("importances", BLUE, ""),
    "seconds_search": ("search", VERMILION, "xx"),
    "seconds_evaluation": ("evaluation", GREEN, ".."),
}
"""Column -> (legend, colour, hatch, which tells them apart without colour)."""
VICTIM = "seconds_victim"
DWARFED = 3.0
"""Where the victim takes so many times what a method takes, a second panel shows the methods alone."""
MOST_SHARES, MOST_BARS = 3, 24


def time_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Return the figures of seconds by phase, one for each dataset, model, attack, setup and |S_m|.

    Bars are means over seeds, one for each method, granularity and settings; a row of panels for each share,
    of more than three the first, a middle and the last. A phase that was not measured has no bar.

    Args:
        rows: of ``searches``; failed cells are passed over.
    """
    known = [row for row in rows if is_scored(row) and any(row[name] is not None for name in PHASES)]
    return [
        Drawing(
            place=("times", *context.file, size), draw=partial(_draw, some, context, size), turn=(number,)
        )
        for context, found in by_context(known).items()
        for number, (size, some) in enumerate(_sizes(found).items())
    ]


def _sizes(rows: Sequence[Row]) -> dict[int, list[Row]]:
    sizes: dict[int, list[Row]] = {}
    for row in rows:
        sizes.setdefault(row["manipulated"], []).append(row)
    return dict(sorted(sizes.items()))


def _draw(rows: Sequence[Row], context: Context, size: int, _: Traces) -> Figure:
    shares = _chosen(sorted({row["share"] for row in rows}, key=share_order))
    bars = {share: _bars([row for row in rows if row["share"] == share]) for share in shares}
    split = _is_dwarfed(bars)
    heights = [max(1, len(own)) for own in bars.values()]
    figure = new_figure((13.0 if split else 9.0, 1.9 + 0.9 * len(shares) + 0.3 * sum(heights)))
    axes = figure.subplots(len(shares), 1 + split, squeeze=False, sharex="col", height_ratios=heights)
    for line, (share, own) in enumerate(bars.items()):
        for column, panel in enumerate(axes[line]):
            _panel(panel, own, [name for name in PHASES if name != VICTIM or not column])
        axes[line, 0].set_title(_share_title(share), loc="left", fontsize=12, weight="bold", color=INK)
        if split:
            axes[line, 1].set_title("without the victim", loc="left", fontsize=11, color=INK)
            axes[line, 1].tick_params(labelleft=False)
    for column, panel in enumerate(axes[-1]):  # the others of a column follow
        panel.set_xlim(0, 1.04 * max(other.dataLim.x1 for other in axes[:, column]))
        panel.set_xlabel("seconds", fontsize=11, color=INK)
    write_title(figure, context.title(describe({"manipulated": size})))
    write_legend(figure, _handles(rows), [_note(rows, shares, bars)])
    return figure


def _chosen(shares: Sequence[str]) -> list[str]:
    if len(shares) <= MOST_SHARES:
        return list(shares)
    return [shares[0], shares[len(shares) // 2], shares[-1]]


def _share_title(share: str) -> str:
    return "one-shot" if share == ONE_SHOT else f"share {share}"


def _bars(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return label -> phase -> mean seconds; 0 where a phase was not measured."""
    bars = {}
    for label, some in lines_of(rows).items():
        for granularity in sorted({row["granularity"] or "" for row in some}, reverse=True):
            own = [row for row in some if (row["granularity"] or "") == granularity]
            bars[", ".join(filter(None, (label, granularity)))] = {name: _mean(own, name) for name in PHASES}
    return dict(list(bars.items())[:MOST_BARS])


def _mean(rows: Sequence[Row], name: str) -> float:
    known = [row[name] for row in rows if row[name] is not None and np.isfinite(row[name])]
    return float(np.mean(known)) if known else 0.0


def _is_dwarfed(bars: Mapping[str, Mapping[str, Mapping[str, float]]]) -> bool:
    every = [bar for own in bars.values() for bar in own.values()]
    most = max((sum(bar.values()) - bar[VICTIM] for bar in every), default=0.0)
    return 0 < most * DWARFED < max(bar[VICTIM] for bar in every)


def _panel(panel: Axes, bars: Mapping[str, Mapping[str, float]], phases: Sequence[str]) -> None:
    frame_panel(panel)
    panel.grid(visible=False, axis="y")
    places = np.arange(len(bars))
    left = np.zeros(len(bars))
    for name in phases:
        _, colour, hatch = PHASES[name]
        lengths = np.array([bar[name] for bar in bars.values()])
        look: dict[str, Any] = {"color": colour, "hatch": hatch, "edgecolor": "white", "linewidth": 0.0}
        panel.barh(places, lengths, left=left, height=0.72, **look)
        left += lengths
    panel.set_yticks(places, list(bars))
    panel.set_ylim(len(bars) - 0.4, -0.6)
    panel.axvline(0, color=FAINT, linewidth=0.8)


def _handles(rows: Sequence[Row]) -> list[Patch]:
    return [
        Patch(facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0.0, label=label)
        for name, (label, colour, hatch) in PHASES.items()
        if any(row[name] is not None for row in rows)
    ]


def _note(
    rows: Sequence[Row], shares: Sequence[str], bars: Mapping[str, Mapping[str, Mapping[str, float]]]
) -> str:
    seeds = len({row["seed"] for row in rows})
    left_out = len({row["share"] for row in rows}) - len(shares)
    more = f"; {left_out} more shares are not shown" if left_out else ""
    full = any(len(own) == MOST_BARS for own in bars.values())
    return f"bars are means over {seeds} seed{'s' * (seeds != 1)}{more}" + (
        f"; at most {MOST_BARS} bars a panel are shown" if full else ""
    )
