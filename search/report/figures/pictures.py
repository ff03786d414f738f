"""Sheets of pictures: clean, triggered and poisoned images, one named row below the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.axes import Axes

from ....errors import BadInput
from .canvas import FAINT, INK, new_figure, save_figure

if TYPE_CHECKING:
    from torch import Tensor


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
