"""What every cell healed against the damage it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ....rows import Row
from .canvas import INK, frame_panel, new_figure, scale_damage, signed, write_legend, write_title
from .cells import by_context, healing_shown, is_scored, lines_of, methods_of, values_of
from .drawing import Drawing, Traces
from .points import Point, mark_handles, mark_points, method_handles
from .styles import GREEN, Style, styles_of

AIM = (98.0, -0.5)
"""Healed, in percent, and damage, in percentage points, that the box begins at."""
NEAR = (85.0, -3.0)
"""Likewise, of the panel that shows the surroundings of the box."""


def healing_drawings(rows: Sequence[Row]) -> list[Drawing]:
    """Return the figures of healing against damage, one for each dataset, model, attack and setup.

    Each cell is a point, with the colour and marker of its method. A hollow marker is a victim left as it was
    (no stop), a cross a collapsed model. The box is what one would like: healed at least 98 % and damage at
    least -0.5; where cells lie near it, and others do not, a second panel shows its surroundings. Where a
    cell has no ``healed``, all show ``healed_raw``, and there is no box.

    Args:
        rows: of ``searches``; failed cells are passed over.
    """
    contexts = by_context(filter(is_scored, rows))
    return [
        Drawing(place=("healed", "damage", *context.file), draw=partial(_draw, some, context.title()))
        for context, some in contexts.items()
    ]


def _draw(rows: Sequence[Row], title: str, _: Traces) -> Figure:
    measure, label = healing_shown(rows)
    near = [row for row in rows if measure == "healed" and _inside(row, NEAR)]
    split = 0 < len(near) < len(rows)
    lines = lines_of(rows)
    styles = styles_of(methods_of(lines))
    figure = new_figure((13.0 if split else 8.0, 6.4))
    panels = figure.subplots(1, 1 + split, squeeze=False)[0]
    for panel in panels:
        frame_panel(panel)
        _cells(panel, lines, styles, measure)
        panel.set_xlabel("damage: change of clean accuracy, pp", fontsize=11, color=INK)
    panels[0].set_ylabel(label, fontsize=11, color=INK)
    _whole(panels[0], rows, measure)
    if split:
        _close(panels[1], near)
    write_title(figure, title)
    write_legend(figure, _handles(rows, styles))
    return figure


def _inside(row: Row, corner: tuple[float, float]) -> bool:
    return bool(row["healed"] >= corner[0] and row["damage"] >= corner[1])


def _cells(
    panel: Axes, lines: Mapping[str, Sequence[Row]], styles: Mapping[str, Style], measure: str
) -> None:
    panel.axvline(0, color=INK, linewidth=0.8, alpha=0.5)
    if measure == "healed":
        healed, damage = AIM
        panel.add_patch(Rectangle((damage, healed), 200, 200, color=GREEN, alpha=0.12, linewidth=0, zorder=0))
    for number, (label, rows) in enumerate(reversed(list(lines.items()))):  # the first of the legend on top
        points = [
            Point(row["damage"], value, frozenset((row["status"],)))
            for row, value in zip(rows, values_of(rows, measure), strict=True)
        ]
        mark_points(panel, points, styles[label], above=0.01 * number)


def _whole(panel: Axes, rows: Sequence[Row], measure: str) -> None:
    panel.set_ylim(-4, max(104.0, 1.04 * max(values_of(rows, measure))))
    scale_damage(panel.xaxis, panel.set_xscale, panel.set_xlim, [row["damage"] for row in rows])


def _close(panel: Axes, near: Sequence[Row]) -> None:
    panel.set_title("near the aim", loc="left", fontsize=11, color=INK)
    panel.set_ylim(NEAR[0], max(102.0, 1.01 * max(row["healed"] for row in near)))
    panel.set_xlim(NEAR[1], max(1.0, 1.1 * max(row["damage"] for row in near)))
    panel.xaxis.set_major_formatter(signed)


def _handles(rows: Sequence[Row], styles: Mapping[str, Style]) -> list[Artist]:
    handles: list[Artist] = [
        *method_handles(styles, lines=False),
        *mark_handles(row["status"] for row in rows),
    ]
    if healing_shown(rows)[0] == "healed":
        label = f"healed ≥ {AIM[0]:g} %, damage ≥ {AIM[1]:g} pp"
        handles.append(Patch(color=GREEN, alpha=0.12, label=label))
    return handles
