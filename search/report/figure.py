"""The figures: what a search trades off on its way, and what the poisoned pictures look like.

Drawn through matplotlib's object-oriented interface: no window, no global state.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ...errors import BadInput
from ...rows import Row
from ...unlearning.kinds import GRANULARITIES
from ..searches import with_curve
from ..settings import METHODS
from ..store import write_atomically
from .table import describe, method_name

if TYPE_CHECKING:
    from torch import Tensor


FORMATS = ("png", "pdf", "svg")
CURVES = {
    "forget_accuracy": ("accuracy on the found poison (forget)", "#D55E00"),
    "clean_accuracy": ("clean accuracy", "#0072B2"),
    "healed_raw": ("healed_raw: triggered images classified correctly", "#009E73"),
}
"""Column -> (legend, colour); vermilion, blue and green of Okabe and Ito tell apart for colour-blind eyes."""
INK, FAINT = "#333333", "#DDDDDD"
DPI = 100


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
    shown = [
        row
        for row in searches.to_pylist()
        if row["method"] in METHODS and row["search"] in with_curve("tradeoff")
    ]
    panels = _panels([row for row in shown if row["key"] in traces or row["status"] == "failed"])
    if not any(row["key"] in traces for row in panels.values()):
        raise BadInput(
            "there is no search with recorded steps to draw; run ssd, lf or xlf with a PTN search first"
        )
    return save_figure(_tradeoff(panels, traces), Path(path))


def _traces(steps: pa.Table) -> dict[str, list[Row]]:
    """Group steps by search, in order of s, which must be positive for a logarithmic axis."""
    traces: dict[str, list[Row]] = {}
    for row in steps.to_pylist():
        if row["s"] is not None and row["s"] > 0:
            traces.setdefault(row["search"], []).append(row)
    return {key: sorted(rows, key=lambda row: row["s"]) for key, rows in traces.items()}


def _panels(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    panels: dict[tuple[str, str], Row] = {}
    for row in rows:
        place = (row["granularity"] or GRANULARITIES[0], row["method"])
        if place in panels:
            raise BadInput(
                f"there are several searches for {row['method']} by {place[0]} ({_about(panels[place])}; "
                f"{_about(row)}); choose the rows of one scenario, share and search"
            )
        panels[place] = row
    return panels


def _about(row: Row) -> str:
    return f"{describe(row)}, {row['search']}"


def _tradeoff(panels: Mapping[tuple[str, str], Row], traces: Mapping[str, list[Row]]) -> Figure:
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
    figure.suptitle(describe(next(iter(panels.values()))), fontsize=14, color=INK)
    _legend(figure, columns=5 if len(columns) > 2 else 2)
    return figure


def _title(row: Row | None, method: str, granularity: str) -> str:
    name = method_name(row) if row else method.upper()
    return f"{name}, {granularity}" if not row or row["granularity"] else f"{name}"


def new_figure(size: tuple[float, float]) -> Figure:
    """Make an empty figure of ``size`` in inches."""
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _frame(panel: Axes, values: Sequence[float], *, left: bool, bottom: bool) -> None:
    log_axis(panel, min(values), max(values))
    panel.set_ylim(-3, 103)
    panel.set_yticks(range(0, 101, 20))
    panel.grid(color=FAINT, linewidth=0.7)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(labelsize=10, color=INK, labelcolor=INK)
    panel.set_xlabel("s (larger dampens more)" if bottom else "", fontsize=11, color=INK)
    panel.set_ylabel("share of images, %" if left else "", fontsize=11, color=INK)


def log_axis(panel: Axes, low: float, high: float) -> None:
    """Make the x axis logarithmic; one tick a decade is too few where it spans less than two."""
    subs = (1.0,) if high / low > 300 else (1.0, 3.0) if high / low > 10 else (1.0, 2.0, 5.0)
    panel.set_xscale("log")
    panel.set_xlim(low / 1.1, high * 1.1)
    panel.xaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


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
    marker = "o" if len(known) <= 12 else ""
    style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 4}
    panel.plot(*_points(searched, name), linewidth=2.2, **style)
    if len(later) > len(searched[-1:]):
        panel.plot(*_points(later, name), linewidth=1.6, linestyle=(0, (3, 1.5)), alpha=0.6, **style)


def _points(rows: Sequence[Row], name: str) -> tuple[list[float], list[float]]:
    return [row["s"] for row in rows], [100 * row[name] for row in rows]


def _mark_stop(panel: Axes, row: Row) -> None:
    panel.axvline(row["s"], color=INK, linewidth=1.2, linestyle=":")
    for name, (_, colour) in CURVES.items():
        if row[name] is not None:
            panel.plot(row["s"], 100 * row[name], "o", color=colour, markersize=7, markeredgecolor="white")
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


def _legend(figure: Figure, columns: int) -> None:
    handles = [Line2D([], [], color=colour, linewidth=2.2, label=label) for label, colour in CURVES.values()]
    handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=":", label="stop of the search"))
    handles.append(Line2D([], [], color=INK, alpha=0.6, linestyle=(0, (3, 1.5)), label="beyond the stop"))
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=11, frameon=False, labelcolor=INK
    )


def contact_sheet(
    rows: Mapping[str, Tensor], path: str | Path, labels: Mapping[str, Sequence[str]] | None = None
) -> Path:
    """Draw a sheet of pictures, one named row below the other, enlarged without smoothing.

    Args:
        rows: name -> float [N, C, H, W] in [0, 1], C = 1 or 3; such as "clean", "triggered", "poisoned".
        path: where the sheet goes: ``.png``, ``.pdf`` or ``.svg``.
        labels: name -> one caption for each picture of that row; `caption` makes them.

    Raises:
        BadInput: no picture, a wrong shape or range, captions that do not match, or another file ending.
    """
    labels = labels or {}
    _check_pictures(rows, labels)
    columns = max(len(pictures) for pictures in rows.values())
    figure = new_figure((1.4 + 1.3 * columns, 0.2 + 1.65 * len(rows)))
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for i, (name, pictures) in enumerate(rows.items()):
        for j in range(columns):
            _picture(axes[i, j], pictures[j] if j < len(pictures) else None)
        for panel, text in zip(axes[i], labels.get(name, ()), strict=False):
            panel.set_xlabel(_short(text), fontsize=9, color=INK, labelpad=3)
        axes[i, 0].set_ylabel(
            name.replace(" ", "\n"), fontsize=11, color=INK, rotation=0, ha="right", va="center", labelpad=8
        )
    return save_figure(figure, Path(path))


def caption(true: str, given: str | None = None) -> str:
    """Write what is under a picture: its true class and, where it matters, the label it was given.

    Args:
        true: name of the class that is shown.
        given: name of the label that the picture carries; None: not said.
    """
    return true if given is None else f"{true}\nlabel: {given}"


def _short(text: str, width: int = 18) -> str:
    """Cut each line of ``text`` to what fits under a picture."""
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in text.split("\n"))


def _check_pictures(rows: Mapping[str, Tensor], labels: Mapping[str, Sequence[str]]) -> None:
    if not any(len(pictures) for pictures in rows.values()):
        raise BadInput("there are no pictures to draw; give at least one row with one picture")
    for name, pictures in rows.items():
        if pictures.ndim != 4 or pictures.shape[1] not in (1, 3) or not pictures.is_floating_point():
            raise BadInput(
                f"row {name!r} is {pictures.dtype} {tuple(pictures.shape)}; "
                "give float [N, C, H, W] with 1 or 3 channels"
            )
        if len(pictures) and not (float(pictures.min()) >= 0 and float(pictures.max()) <= 1):
            raise BadInput(f"row {name!r} has values outside [0, 1]; give the pictures before normalisation")
    for name, texts in labels.items():
        if name not in rows or len(texts) != len(rows[name]):
            raise BadInput(
                f"{len(texts)} captions for row {name!r} do not match its pictures; give one for each"
            )


def _picture(panel: Axes, picture: Tensor | None) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(picture is not None)
    panel.spines[:].set_color(FAINT)
    if picture is not None:
        pixels = picture.detach().float().cpu().permute(1, 2, 0).expand(-1, -1, 3).numpy()
        panel.imshow(pixels, interpolation="nearest", vmin=0, vmax=1)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write the figure, whole or not at all; the ending says in which format.

    Raises:
        BadInput: another ending, or the file cannot be written.
    """
    ending = path.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise BadInput(f"{path} does not end in .{', .'.join(FORMATS)}; choose one of these endings")
    try:
        write_atomically(path, lambda temporary: figure.savefig(temporary, format=ending, dpi=DPI))
    except OSError as error:
        raise BadInput(f"{path} cannot be written ({error.strerror or error}); name another file") from error
    return path
