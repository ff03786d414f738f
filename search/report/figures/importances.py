"""How the importances of two sets are distributed, and their ratios, which a threshold divides."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ....errors import BadInput
from .canvas import INK, frame_panel, new_figure, save_figure, write_legend, write_title
from .styles import BLUE, INDIGO, VERMILION

BINS = 80
SETS = {"forget": (VERMILION, "-"), "retain": (BLUE, (0, (4, 1.2)))}
"""Name of a set -> colour and dashes."""


def importance_figure(
    path: str | Path, *, forget: Any, retain: Any, alpha: float | None = None, about: str = ""
) -> Path:
    """Draw the histograms of two importances, and of their ratio, on logarithmic axes.

    Left: importances of S_f and of retain; right: forget / retain, where the weights above ``alpha`` are
    those that are dampened. What a logarithmic axis cannot show, importances of 0 and ratios 0 / 0, x / 0 and
    0 / x, is counted in the legend. A weight with x / 0 is always dampened, one with 0 / 0 never.

    Args:
        path: where the figure goes, ``.png``, ``.pdf`` or ``.svg``.
        forget: float [P], importance of each parameter for S_f, or anything that numpy makes one array of;
            of a model, `Importance.mean` flattened and joined.
        retain: likewise, for retain.
        alpha: the threshold that was chosen, if there is one.
        about: title of the figure.

    Raises:
        BadInput: empty or different shapes, values that are negative or not finite, or another file ending.
    """
    values = {"forget": _checked("forget", forget), "retain": _checked("retain", retain)}
    if values["forget"].shape != values["retain"].shape:
        shapes = [f"{name} {tuple(array.shape)}" for name, array in values.items()]
        raise BadInput(f"importances of one model have one shape, these have {' and '.join(shapes)}")
    figure = new_figure((12.0, 5.6))
    left, right = figure.subplots(1, 2)
    handles = [*_importances(left, values), *_ratios(right, values["forget"], values["retain"], alpha)]
    if about:
        write_title(figure, about)
    write_legend(figure, handles)
    return save_figure(figure, Path(path))


def _checked(name: str, given: Any) -> np.ndarray:
    found = np.asarray(given, dtype=np.float64).ravel()
    if not found.size:
        raise BadInput(f"there are no importances of {name} to draw; give at least one parameter's")
    if not np.isfinite(found).all() or (found < 0).any():
        raise BadInput(f"importances of {name} are finite and not negative; give others")
    return found


def _importances(panel: Axes, values: dict[str, np.ndarray]) -> list[Artist]:
    bins = _bins(np.concatenate(list(values.values())))
    handles: list[Artist] = []
    for name, found in values.items():
        colour, dashes = SETS[name]
        zeros = int((found == 0).sum())
        label = f"importance, {name}" + (f" ({zeros:,} of {found.size:,} are 0)" if zeros else "")
        look: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 2.0}
        panel.hist(found[found > 0], bins.tolist(), histtype="step", **look)
        handles.append(Line2D([], [], label=label, **look))
    _frame(panel, bins, "importance of a parameter")
    return handles


def _ratios(panel: Axes, forget: np.ndarray, retain: np.ndarray, alpha: float | None) -> list[Artist]:
    shown = (forget > 0) & (retain > 0)
    ratios = forget[shown] / retain[shown]
    marks = ratios if alpha is None or alpha <= 0 else np.append(ratios, alpha)
    bins = _bins(marks)
    panel.hist(ratios, bins.tolist(), histtype="stepfilled", color=INDIGO, alpha=0.45)
    handles: list[Artist] = [Patch(color=INDIGO, alpha=0.45, label=_ratio_label(forget, retain))]
    if alpha is not None:
        dampened = int(
            ((retain > 0) & (forget > alpha * retain)).sum() + ((retain == 0) & (forget > 0)).sum()
        )
        label = f"alpha = {alpha:.3g}: {dampened:,} of {forget.size:,} are dampened"
        handles.append(panel.axvline(alpha, color=INK, linewidth=1.6, linestyle=":", label=label))
    _frame(panel, bins, "ratio forget / retain")
    return handles


def _ratio_label(forget: np.ndarray, retain: np.ndarray) -> str:
    counts = {
        "0 / 0": int(((forget == 0) & (retain == 0)).sum()),
        "x / 0": int(((forget > 0) & (retain == 0)).sum()),
        "0 / x": int(((forget == 0) & (retain > 0)).sum()),
    }
    left_out = ", ".join(f"{count:,} are {name}" for name, count in counts.items() if count)
    return f"ratio forget / retain{f' ({left_out})' if left_out else ''}"


def _bins(values: np.ndarray) -> np.ndarray:
    """Return edges that are as far from each other on a logarithmic axis."""
    known = values[values > 0]
    if not known.size:
        return np.geomspace(0.1, 10, BINS + 1)
    low, high = float(known.min()), float(known.max())
    return np.geomspace(low / 1.05, high * 1.05, BINS + 1)


def _frame(panel: Axes, bins: np.ndarray, label: str) -> None:
    frame_panel(panel)
    panel.set_xlim(bins[0], bins[-1])  # limits first: there may be nothing to scale by
    panel.set_ylim(0.7, max(10.0, 1.6 * panel.dataLim.y1))
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(label, fontsize=11, color=INK)
    panel.set_ylabel("parameters", fontsize=11, color=INK)
