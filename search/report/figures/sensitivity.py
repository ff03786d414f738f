"""How healing and damage depend on a setting of the search: rho, s_step."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ....rows import Row
from ..line_names import describe, sortable
from .canvas import INK, frame_panel, new_figure, scale_damage, write_legend, write_title
from .cells import (
    by_context,
    by_granularity,
    healing_shown,
    is_scored,
    lines_of,
    methods_of,
)
from .drawing import Drawing, Traces, ranks
from .intervals import WORDS
from .points import Averaged, dodges, draw_averages, line_widths, mark_handles, method_handles
from .styles import Style, styles_of

SETTINGS = {"rho": "rho", "s_step": "s_step"}
"""Setting -> what its axis is called."""
ROOM = 0.3
Values = dict[float, list[Row]]


def sensitivity_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Return the figures of settings that searches were run with several values of.

    One figure for each dataset, model, attack, setup, |S_m|, share and granularity; a column of panels for
    each setting, with healing above and damage below; a line for each method that has several values of it.
    Lines that differ in further settings say so. Points are means over seeds.

    Args:
        rows: of ``searches``.
    """
    several = [row for row in rows if is_scored(row) and _settings(row["settings"]).keys() & SETTINGS.keys()]
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for context, some in by_context(several).items():
        for granularity, own in by_granularity(some).items():
            for row in own:
                found[context, granularity, row["manipulated"], row["share"]].append(row)
    shares = ranks(place[3] for place in found)
    drawings = []
    for place in sorted(found, key=lambda place: (*place[0].file, *map(sortable, place[1:]))):
        panels = _panels(found[place])
        if panels:
            drawings.append(_drawing(place, panels, shares[place[3]]))
    return drawings


def _drawing(place: tuple[Any, ...], panels: Mapping[str, Any], turn: int) -> Drawing:
    context, granularity, size, share = place
    about = describe({"manipulated": size, "share": share})
    return Drawing(
        place=("sensitivity", *context.file, size, share, granularity),
        draw=partial(_draw, panels, context.title(about, granularity)),
        turn=(turn,),
    )


@lru_cache(maxsize=4096)
def _settings(text: str | None) -> dict[str, Any]:
    """Return the settings of a row by name; nothing where they are not recorded."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _panels(rows: Sequence[Row]) -> dict[str, dict[str, Values]]:
    """Return setting -> label of a line -> value -> rows, where a line has several values."""
    panels = {}
    for name in SETTINGS:
        lines = lines_of([other for row in rows if (other := _without(row, name))])
        several = [row for some in lines.values() if len(_values(some)) > 1 for row in some]
        if several:  # labels say what differs between those alone
            panels[name] = {label: _values(some) for label, some in lines_of(several).items()}
    return panels


def _without(row: Row, name: str) -> Row | None:
    """Return a row whose settings lack one of them, which stands beside; None where it is no number."""
    settings = _settings(row["settings"])
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    rest = {other: held for other, held in settings.items() if other != name}
    return {**row, "settings": json.dumps(rest), "value": float(value)}


def _values(rows: Sequence[Row]) -> Values:
    values: Values = defaultdict(list)
    for row in rows:
        values[row["value"]].append(row)
    return dict(sorted(values.items()))


def _draw(panels: Mapping[str, Mapping[str, Values]], title: str, _: Traces) -> Figure:
    lines = {label: next(iter(values.values())) for some in panels.values() for label, values in some.items()}
    styles = styles_of(methods_of(lines))
    rows = [
        row for some in panels.values() for values in some.values() for own in values.values() for row in own
    ]
    measure, label = healing_shown(rows)
    figure = new_figure((max(8.5, 1.2 + 4.6 * len(panels)), 8.2))
    axes = figure.subplots(2, len(panels), sharey="row", sharex="col", squeeze=False)
    for column, (name, own) in enumerate(panels.items()):
        ticks = sorted({value for values in own.values() for value in values})
        for panel, shown in ((axes[0, column], measure), (axes[1, column], "damage")):
            _panel(panel, own, ticks, {key: styles[key] for key in own}, shown)
        axes[1, column].set_xlabel(SETTINGS[name], fontsize=12, color=INK)
    axes[0, 0].set_ylabel(label, fontsize=11, color=INK)
    axes[1, 0].set_ylabel("damage: change of\nclean accuracy, pp", fontsize=11, color=INK)
    _scales(axes, rows, measure)
    write_title(figure, title)
    handles = [*method_handles(styles), *mark_handles(row["status"] for row in rows)]
    write_legend(figure, handles, [f"{WORDS}; {_counts(panels)}"])
    return figure


def _scales(axes: Any, rows: Sequence[Row], measure: str) -> None:
    most = max(row["healed"] or 0.0 for row in rows) if measure == "healed" else 100.0
    axes[0, 0].set_ylim(-4, max(104.0, 1.04 * most))
    for panel in axes[1]:
        panel.axhline(0, color=INK, linewidth=0.8, alpha=0.5)
    first = axes[1, 0]  # the others follow
    scale_damage(first.yaxis, first.set_yscale, first.set_ylim, [row["damage"] for row in rows])


def _panel(
    panel: Axes,
    lines: Mapping[str, Values],
    ticks: Sequence[float],
    styles: Mapping[str, Style],
    measure: str,
) -> None:
    frame_panel(panel)
    panel.tick_params(labelbottom=True, labelleft=True)
    panel.set_xlim(-0.5, len(ticks) - 0.5)
    panel.set_xticks(range(len(ticks)), [f"{value:g}" for value in ticks])
    points = {
        label: {ticks.index(value): Averaged.of(rows, measure) for value, rows in values.items()}
        for label, values in lines.items()
    }
    widths, beside = line_widths(points), dodges(list(styles), ROOM)
    for number, (label, style) in enumerate(styles.items()):
        places = {x + beside[label]: one for x, one in points[label].items()}
        draw_averages(panel, places, style, widths[label], above=0.01 * (len(styles) - number))


def _counts(panels: Mapping[str, Mapping[str, Values]]) -> str:
    counts = {
        len({row["seed"] for row in rows})
        for some in panels.values()
        for values in some.values()
        for rows in values.values()
    }
    return f"n = {' or '.join(map(str, sorted(counts)))}"
