"""Healing and damage against the share of the poison that was discovered.

One figure for each dataset, model, attack, setup and granularity; one column of panels for each |S_m|; one
line for each method and settings. What figures 10 and 13 of Schoepf et al. show, and also which searches
ended without a stop or collapsed.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ....rows import Row
from ..status import FAILED
from .canvas import (
    INK,
    frame_panel,
    new_figure,
    scale_damage,
    share_scale,
    write_legend,
    write_title,
)
from .cells import (
    ONE_SHOT,
    Context,
    by_context,
    by_granularity,
    healing_shown,
    is_scored,
    lines_of,
    methods_of,
    share_name,
    share_order,
)
from .drawing import Drawing, Traces, pieces
from .intervals import WORDS
from .points import Averaged, dodges, draw_averages, line_widths, mark_handles, method_handles
from .styles import Style, styles_of

MOST_SIZES, MOST_LINES = 4, 12
"""|S_m| beside each other, and lines of a panel; what is more goes into further figures."""
DAMAGE = "damage: change of\nclean accuracy, pp"
MOST_NAMED = 3
ROOM = 0.36
"""Of the way from one share to the next: what the points of all methods take."""


def share_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Return the figures of healing and damage against the share found, as far as cells are scored.

    Points are means over seeds, and over nothing else: rows that differ in anything else are lines or figures
    of their own. Bars are 95 % intervals. One-shot healing is another task and stands alone. ``healed`` is
    shown where all cells of a panel have it; elsewhere the panel shows ``healed_raw``, on an axis of its own.

    Args:
        rows: of ``searches``; failed cells are counted below the figure.
    """
    whole = [row for row in rows if row["share"] is not None and row["manipulated"] is not None]
    return [
        drawing
        for context, found in by_context(whole).items()
        for granularity, some in by_granularity(found).items()
        for drawing in _pages(context, granularity, some)
    ]


def _pages(context: Context, granularity: str, rows: Sequence[Row]) -> list[Drawing]:
    lines = lines_of([row for row in rows if is_scored(row)])
    if not lines:
        return []
    styles = list(styles_of(methods_of(lines)).items())
    sizes = sorted({row["manipulated"] for some in lines.values() for row in some})
    pages = [(page, some) for page in pieces(sizes, MOST_SIZES) for some in pieces(styles, MOST_LINES)]
    words = context.title(granularity), _failed(rows)
    return [
        Drawing(
            place=(*context.file, granularity or "baselines"),
            draw=partial(_draw, lines, sizes[page], dict(styles[some]), *words),
            turn=(number,),
        )
        for number, (page, some) in enumerate(pages)
    ]


def _failed(rows: Sequence[Row]) -> str:
    """Say how many cells are missing."""
    failed = sum(row["status"] in FAILED for row in rows)
    return f"{failed:,} of {len(rows):,} cells failed and are not shown" if failed else ""


def _draw(
    lines: Mapping[str, Sequence[Row]],
    sizes: Sequence[int],
    styles: Mapping[str, Style],
    title: str,
    note: str,
    _: Traces,
) -> Figure | None:
    known = set(sizes)
    lines = {label: [row for row in lines[label] if row["manipulated"] in known] for label in styles}
    rows = [row for some in lines.values() for row in some]
    if not rows:
        return None
    shares = sorted({row["share"] for row in rows}, key=share_order)
    figure = new_figure((max(8.5, 1.2 + 4.4 * len(sizes)), 8.2))
    axes = figure.subplots(2, len(sizes), squeeze=False)
    measures = _columns(axes, lines, sizes, shares, styles)
    share_scale(axes[0], measures)
    share_scale(axes[1], ["damage"] * len(sizes))
    _scales(axes, measures, rows)
    write_title(figure, title)
    _legend(figure, lines, styles, note)
    return figure


def _columns(
    axes: np.ndarray,
    lines: Mapping[str, Sequence[Row]],
    sizes: Sequence[int],
    shares: Sequence[str],
    styles: Mapping[str, Style],
) -> list[str]:
    """Draw the panels of every |S_m|, and return what of healing each shows."""
    measures = []
    for column, size in enumerate(sizes):
        above, below = axes[0, column], axes[1, column]
        own = {label: [row for row in some if row["manipulated"] == size] for label, some in lines.items()}
        measure, label = healing_shown(row for some in own.values() for row in some)
        measures.append(measure)
        above.set_title(f"|S_m| = {size:,}", loc="left", fontsize=12, weight="bold", color=INK)
        above.set_ylabel(label, fontsize=11, color=INK)
        below.set_ylabel(
            "damage: change of\nclean accuracy, pp" if column == 0 else "", fontsize=11, color=INK
        )
        below.set_xlabel("discovery share |S_f| / |S_m|, %", fontsize=11, color=INK)
        for panel, shown in ((above, measure), (below, "damage")):
            _frame(panel, shares)
            _lines(panel, own, shares, styles, shown)
    return measures


def _frame(panel: Axes, shares: Sequence[str]) -> None:
    frame_panel(panel)
    panel.set_xlim(-0.6, len(shares) - 0.4)
    stride = math.ceil(len(shares) / 12)
    shown = [number for number in range(len(shares)) if shares[number] == ONE_SHOT or number % stride == 0]
    panel.set_xticks(shown, [share_name(shares[number]) for number in shown])
    if ONE_SHOT in shares and len(shares) > 1:
        panel.axvline(0.5, color=INK, linewidth=0.8, alpha=0.5)


def _lines(
    panel: Axes,
    lines: Mapping[str, Sequence[Row]],
    shares: Sequence[str],
    styles: Mapping[str, Style],
    measure: str,
) -> None:
    points = {label: _points(lines[label], shares, measure) for label in styles}
    widths, beside, wide = line_widths(points), dodges(list(styles), ROOM), dodges(list(styles), 2 * ROOM)
    for number, (label, style) in enumerate(styles.items()):
        found = points[label].items()
        alone = {x + wide[label]: point for x, point in found if shares[x] == ONE_SHOT}
        joined = {x + beside[label]: point for x, point in found if shares[x] != ONE_SHOT}
        for some in (alone, joined):
            draw_averages(panel, some, style, widths[label], above=0.01 * (len(styles) - number))


def _points(rows: Sequence[Row], shares: Sequence[str], measure: str) -> dict[int, Averaged]:
    places = {share: number for number, share in enumerate(shares)}
    groups: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        groups[places[row["share"]]].append(row)
    return {x: Averaged.of(groups[x], measure) for x in sorted(groups)}


def _scales(axes: np.ndarray, measures: Sequence[str], rows: Sequence[Row]) -> None:
    most = max(row["healed"] or 0.0 for row in rows)
    for panel, measure in zip(axes[0], measures, strict=True):
        panel.set_ylim(-4, max(104.0, 1.04 * most) if measure == "healed" else 104.0)
    for panel in axes[1]:
        panel.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
    first = axes[1, 0]  # the others follow
    scale_damage(first.yaxis, first.set_yscale, first.set_ylim, [row["damage"] for row in rows])


def _legend(
    figure: Figure, lines: Mapping[str, Sequence[Row]], styles: Mapping[str, Style], note: str
) -> None:
    rows = [row for some in lines.values() for row in some]
    drawn = {label: style for label, style in styles.items() if lines[label]}
    handles = [*method_handles(drawn), *mark_handles(row["status"] for row in rows)]
    write_legend(figure, handles, [words for words in (WORDS, *_counts(lines), note) if words])


def _counts(lines: Mapping[str, Sequence[Row]]) -> list[str]:
    """Say how many seeds are behind the points, and where one of them counts several times."""
    seeds: dict[tuple[str, int, str], list[object]] = defaultdict(list)
    for label, rows in lines.items():
        for row in rows:
            seeds[label, row["manipulated"], row["share"]].append(row["seed"])
    counts = {place: len(set(found)) for place, found in seeds.items()}
    notes = [_seed_words(counts)]
    if any(counts[place] < len(found) for place, found in seeds.items()):
        notes.append("some points hold several searches of one seed, whose mean counts once")
    return notes


def _seed_words(counts: Mapping[tuple[str, int, str], int]) -> str:
    """Say how many seeds points have, and which lines have points with another number."""
    usual, _ = Counter(counts.values()).most_common(1)[0]
    other: dict[str, set[int]] = defaultdict(set)
    for (label, _, _), count in counts.items():
        if count != usual:
            other[label].add(count)
    if len(other) > MOST_NAMED:
        return f"n = {min(counts.values())} to {max(counts.values())} seeds"
    words = f"n = {usual} {'seed' if usual == 1 else 'seeds'}"
    named = [f"{label} (n = {' or '.join(map(str, sorted(some)))})" for label, some in other.items()]
    return f"{words}, but for some points of {', '.join(named)}" if named else words
