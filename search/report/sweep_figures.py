"""The figures of a sweep: healing and damage against the share of the poison that was discovered.

One figure for each dataset, model, attack and granularity; one column of panels for each |S_m|; one line for
each method. What figures 10 and 13 of Schoepf et al. show, and also which searches ended without a stop or
collapsed.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from ...errors import BadInput
from ...rows import Row
from ...unlearning.kinds import GRANULARITIES
from .figure import FAINT, INK, new_figure, save_figure
from .status import FAILED
from .table import describe, method_name

Point = tuple[float, Sequence[Row]]

STYLES: Mapping[str, tuple[str, str, str]] = {
    "Guarded-XLF": ("#E69F00", "*", (0, (8, 1.5, 1, 1.5))),  # type: ignore[dict-item]
    "PTN-XLF": ("#D55E00", "o", "-"),
    "PTN-LF": ("#0072B2", "s", "-"),
    "PTN-SSD": ("#009E73", "^", "-"),
    "Grid-SSD": ("#CC79A7", "D", (0, (6, 1.5))),  # type: ignore[dict-item]
    "EU": ("#000000", "v", (0, (3, 1.5))),  # type: ignore[dict-item]
    "None": ("#888888", "P", ":"),
}
"""Method -> colour (of Okabe and Ito), marker and line; each of the three tells the methods apart."""
OTHERS = ("#56B4E9", "#8C510A", "#882255")
"""Colours of further methods, in turn."""
GROUP = ("dataset", "model", "attack")
ONE_SHOT = "one_shot"
WIDE_DAMAGE = 15.0
"""Percentage points; from there on the scale of damage is linear near zero and logarithmic beyond."""


def sweep_figures(
    searches: pa.Table, directory: Path, *, ending: str = "png", most: int | None = None
) -> tuple[Path, ...]:
    """Draw every figure that the finished cells allow; works while the sweep runs.

    Lines are means over seeds, bands (bars at one-shot) go from the least to the greatest. ``healed`` is
    shown where all cells of a panel have it; elsewhere the panel shows ``healed_raw``, and its axis says so.
    A hollow marker is a victim left as it was (no stop), a cross a collapsed model, if any seed's is.

    Args:
        searches: as `ResultsStore.read` gives them; failed cells are counted below the figure.
        directory: where the figures go, as ``<dataset>-<model>-<attack>-<granularity>.png``.
        ending: "png", "svg" or "pdf".
        most: at most so many figures.

    Raises:
        BadInput: no cell has been scored yet, or the directory cannot be written.
    """
    rows = searches.to_pylist()
    groups = _groups(rows)
    if not any(is_scored(row) for group in groups.values() for row in group):
        raise BadInput("there is no scored cell to draw; wait until the sweep has finished one")
    return tuple(
        save_figure(_draw(group, place), directory / f"{name}.{ending}")
        for name, (place, group) in islice(_named(groups).items(), most)
        if any(map(is_scored, group))
    )


def _groups(rows: Sequence[Row]) -> dict[tuple[str, ...], list[Row]]:
    """Group rows by figure; baselines, which have no granularity, stand in all of their scenario."""
    kinds: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for row in rows:
        if row["share"] is not None and row["manipulated"] is not None:
            kinds[_context(row)] |= {row["granularity"]} - {None}
    return {
        (*context, granularity): [
            row for row in rows if _context(row) == context and row["granularity"] in (granularity, None)
        ]
        for context in sorted(kinds)
        for granularity in sorted(kinds[context] or {"baselines"}, key=_granularity_order)
    }


def _context(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in GROUP)


def _granularity_order(name: str) -> tuple[int, str]:
    return (GRANULARITIES.index(name) if name in GRANULARITIES else len(GRANULARITIES), name)


def _named(
    groups: Mapping[tuple[str, ...], list[Row]],
) -> dict[str, tuple[tuple[str, ...], list[Row]]]:
    """Return the places and rows by file name."""
    return dict(zip(file_names(groups), groups.items(), strict=True))


def file_names(places: Iterable[Sequence[object]]) -> list[str]:
    """Give each place a name of its own; where two differ in odd signs only, or not at all, a number."""
    names: list[str] = []
    for place in places:
        name = stem = "-".join(re.sub(r"[^\w.]+", "_", str(part)) for part in place)
        number = 1
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def is_scored(row: Row) -> bool:
    """Tell whether there is anything of a cell to draw."""
    return row["status"] not in FAILED and row["healed_raw"] is not None and row["damage"] is not None


def _draw(rows: Sequence[Row], place: tuple[str, ...]) -> Figure:
    scored = [row for row in rows if is_scored(row)]
    sizes = sorted({row["manipulated"] for row in scored})
    shares = sorted({row["share"] for row in scored}, key=_share_order)
    figure = new_figure((max(7.5, 1.2 + 4.4 * len(sizes)), 8.0))
    axes = figure.subplots(2, len(sizes), sharex=True, sharey="row", squeeze=False)
    for column, size in enumerate(sizes):
        chosen = [row for row in scored if row["manipulated"] == size]
        _panels(axes[0, column], axes[1, column], chosen, shares, left=column == 0)
    axes[0, 0].set_ylim(-4, max(104.0, 1.04 * max(row["healed"] or 0.0 for row in scored)))
    _damage_axes(axes[1], [row["damage"] for row in scored])
    title = describe(dict(zip(GROUP, place, strict=False)))
    figure.suptitle(f"{title}, {place[-1]}" if place[-1] != "baselines" else title, fontsize=14, color=INK)
    _legend(figure, scored, _notes(rows))
    return figure


def _share_order(share: str) -> tuple[bool, float]:
    return (share != ONE_SHOT, 0.0 if share == ONE_SHOT else float(share))


def _panels(above: Axes, below: Axes, rows: Sequence[Row], shares: Sequence[str], *, left: bool) -> None:
    measure, label = healing_shown(rows)
    for panel in (above, below):
        _frame(panel, shares)
    above.set_title(f"|S_m| = {rows[0]['manipulated']:,}", loc="left", fontsize=12, weight="bold", color=INK)
    above.set_ylabel(label, fontsize=11, color=INK)
    below.set_xlabel("discovery share |S_f| / |S_m|, %", fontsize=11, color=INK)
    below.set_ylabel("change of clean accuracy, pp" if left else "", fontsize=11, color=INK)
    for name, group in by_method(rows).items():
        points = [
            (float(number), [row for row in group if row["share"] == share])
            for number, share in enumerate(shares)
        ]
        _line(above, name, [point for point in points if point[1]], shares, measure)
        _line(below, name, [point for point in points if point[1]], shares, "damage")


def healing_shown(rows: Sequence[Row]) -> tuple[str, str]:
    """Tell what of healing is shown: one measure in a panel, never a mixture."""
    if all(row["healed"] is not None for row in rows):
        return "healed", "healed, % of a clean model"
    return "healed_raw", "healed_raw, % (no clean reference)"


def by_method(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by display name, in the order of `STYLES`."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[method_name(row) or "?"].append(row)
    known = list(STYLES)
    order = sorted(groups, key=lambda name: (known.index(name) if name in known else len(known), name))
    return {name: groups[name] for name in order}


def _frame(panel: Axes, shares: Sequence[str]) -> None:
    panel.set_xlim(-0.6, len(shares) - 0.4)
    stride = math.ceil(len(shares) / 12)
    shown = [number for number in range(len(shares)) if shares[number] == ONE_SHOT or number % stride == 0]
    panel.set_xticks(shown, [_share_name(shares[number]) for number in shown])
    panel.grid(color=FAINT, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=10, color=INK, labelcolor=INK, labelleft=True)
    if ONE_SHOT in shares and len(shares) > 1:
        panel.axvline(0.5, color=INK, linewidth=0.8, alpha=0.5)


def _share_name(share: str) -> str:
    return "one\nshot" if share == ONE_SHOT else f"{100 * float(share):g}"


def _line(panel: Axes, name: str, points: Sequence[Point], shares: Sequence[str], measure: str) -> None:
    """Draw the line over the shares; one-shot healing is another task and stands alone."""
    alone = [point for point in points if shares[int(point[0])] == ONE_SHOT]
    joined = [point for point in points if point not in alone]
    colour, marker, dashes = method_style(name)
    for part in (alone, joined):
        spans = [_span(rows, measure) for _, rows in part]
        places = [x + _dodge(name) * (part is alone) for x, _ in part]
        middle = [span[1] for span in spans]
        panel.plot(places, middle, color=colour, linestyle=dashes, linewidth=2.0, alpha=0.9)
        if part is joined:
            low, high = [span[0] for span in spans], [span[2] for span in spans]
            panel.fill_between(places, low, high, color=colour, alpha=0.13, linewidth=0)
        else:
            panel.vlines(places, [s[0] for s in spans], [s[2] for s in spans], color=colour, linewidth=1.4)
        for x, y, (_, rows) in zip(places, middle, part, strict=True):
            mark_outcome(panel, x, y, colour, marker, {row["status"] for row in rows})


def mark_outcome(panel: Axes, x: float, y: float, colour: str, marker: str, statuses: set[str]) -> None:
    """Draw a point; hollow if any victim was left as it was, crossed if any collapsed."""
    face = "white" if "no_stop" in statuses else colour
    panel.plot([x], [y], marker, color=colour, markersize=_size(marker), markerfacecolor=face, zorder=3)
    if "collapsed" in statuses:
        panel.plot([x], [y], "x", color=INK, markersize=9, markeredgewidth=1.8, zorder=4)


def _size(marker: str) -> int:
    """Return the size of a marker; a star fills less of its size."""
    return 10 if marker == "*" else 6


def method_style(name: str) -> tuple[str, str, Any]:
    """Return the colour, marker and line of a method."""
    if name in STYLES:
        return STYLES[name]
    return OTHERS[sum(name.encode()) % len(OTHERS)], "h", "-."


def _dodge(name: str) -> float:
    """Return the shift that puts methods beside each other at one-shot, where no line can be followed."""
    known = list(STYLES)
    return 0.11 * ((known.index(name) if name in known else len(known)) - 0.5 * (len(known) - 1))


def _span(rows: Iterable[Row], measure: str) -> tuple[float, float, float]:
    """Return the least, mean and greatest over seeds, in percent or percentage points."""
    scale = 100 if measure == "healed_raw" else 1
    values = [scale * row[measure] for row in rows]
    return min(values), statistics.fmean(values), max(values)


def _damage_axes(panels: Sequence[Axes], values: Sequence[float]) -> None:
    for panel in panels:
        panel.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
    first = panels[0]  # the others follow
    scale_damage(first.yaxis, first.set_yscale, first.set_ylim, values)


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


def _notes(rows: Sequence[Row]) -> list[str]:
    """Say what the figure leaves out or mixes."""
    failed = sum(row["status"] in FAILED for row in rows)
    notes = [f"{failed} of {len(rows)} cells failed and are not shown"] if failed else []
    seeds: dict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for row in filter(is_scored, rows):
        seeds[method_name(row), row["manipulated"], row["share"]].append(row["seed"])
    if any(len(set(found)) < len(found) for found in seeds.values()):
        notes.append("some points hold several cells of one seed, which differ in settings")
    return notes


def _legend(figure: Figure, rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Draw methods, marks and notes below the panels."""
    columns = 8 if len({row["manipulated"] for row in rows}) > 2 else 4
    legend = figure.legend(
        handles=[*method_handles(rows), *mark_handles({row["status"] for row in rows})],
        loc="outside lower center",
        ncols=columns,
        fontsize=11,
        frameon=False,
        labelcolor=INK,
        handlelength=2.8,
        title="\n".join(notes) or None,
        title_fontsize=11,
    )
    legend.get_title().set_color(INK)


def method_handles(rows: Sequence[Row]) -> list[Line2D]:
    """Return the methods of a legend."""
    styles = {name: method_style(name) for name in by_method(rows)}
    return [
        Line2D(
            [],
            [],
            color=colour,
            marker=marker,
            markersize=_size(marker),
            ls=dashes,
            linewidth=2.0,
            label=name,
        )
        for name, (colour, marker, dashes) in styles.items()
    ]


def mark_handles(statuses: set[str]) -> list[Line2D]:
    """Return what is unusual about points, for a legend."""
    style: dict[str, Any] = {"linestyle": "", "color": INK}
    hollow = Line2D([], [], marker="o", markerfacecolor="white", label="no stop", **style)
    cross = Line2D([], [], marker="x", markersize=9, markeredgewidth=1.8, label="collapsed", **style)
    return [mark for name, mark in (("no_stop", hollow), ("collapsed", cross)) if name in statuses]
