"""A sheet of all triggers: what each does to a few images, and how large it is."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ....datasets.sources import ImageDataset
from ....datasets.triggers import TRIGGERS, Trigger, parse_trigger
from .canvas import INK, new_figure, save_figure

AMPLIFICATIONS = (100, 50, 20, 10, 5, 2, 1)
COLUMNS = ("clean", "triggered", "difference")
PICTURE_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a trigger is: the means over some images of norms of triggered minus clean, in [0, 1] units.

    Attributes:
        l0: pixels that change in any channel.
        l2: Euclidean norm over all channels and pixels.
        linf: largest absolute change.
    """

    l0: float
    l2: float
    linf: float

    @classmethod
    def of(cls, clean: Tensor, triggered: Tensor) -> Size:
        """Measure the trigger on images [N, C, H, W] in [0, 1], N at least 1."""
        change = (triggered - clean).double().abs()
        return cls(
            l0=(change > 0).any(1).flatten(1).sum(1).double().mean().item(),
            l2=change.flatten(1).norm(dim=1).mean().item(),
            linf=change.flatten(1).amax(1).mean().item(),
        )

    def __str__(self) -> str:
        return f"l0 {self.l0:.0f} px\nl2 {self.l2:.2f}\nlinf {self.linf:.2f}"


def attack_sheet(dataset: ImageDataset, path: str | Path, *, shown: int = 3, measured: int = 100) -> Path:
    """Draw every trigger with its defaults on test images of ``dataset``; pictures for files are made up.

    A row holds, for each image, the clean one, the triggered one, and 0.5 + x * difference / 2 with the
    amplification x that is beside it. Norms are means, see `Size`.

    Args:
        dataset: with 1 or 3 channels.
        path: where the sheet goes: ``.png``, ``.pdf`` or ``.svg``.
        shown: images a row, of different classes as far as there are.
        measured: over how many of the first test images the norms are taken.

    Raises:
        BadInput: a trigger does not fit the images, or ``path`` has another ending or cannot be written.
    """
    test = dataset.test
    rows = _one_a_class(test.labels, shown)
    index = torch.cat([rows, torch.arange(min(measured, len(test)))])
    images = test.images(index).cpu().float() / 255
    with tempfile.TemporaryDirectory() as folder:
        changed = {name: one(images, index) for name, one in example_triggers(Path(folder)).items()}
    figure = _figure(images, changed, len(rows))
    figure.suptitle(
        f"{dataset.name}: triggers with their defaults. Difference: grey where nothing changes,\n"
        f"amplified as stated. Norms: means over {len(index) - len(rows)} images, values in [0, 1].",
        fontsize=11,
        color=INK,
    )
    return save_figure(figure, Path(path))


def example_triggers(folder: Path) -> dict[str, Trigger]:
    """Return every trigger by name with its defaults; those that need a picture get one in ``folder``."""
    noise, glasses = folder / "noise.png", folder / "glasses.png"
    Image.fromarray(_noise()).save(noise)
    Image.fromarray(_glasses()).save(glasses)
    files = {"additive": noise, "masked": glasses}
    return {
        name: parse_trigger({"name": name, "file": str(files[name])} if name in files else name)
        for name in TRIGGERS
    }


def _noise() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw a dim picture, as published for l2-bounded triggers: [H, W, 3]."""
    return np.random.default_rng(0).integers(0, 65, (PICTURE_SIDE, PICTURE_SIDE, 3), dtype=np.uint8)


def _glasses() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Draw a pair of glasses, as Chen et al. (2017) put on faces: [H, W, 4], transparent elsewhere."""
    y, x = np.mgrid[:PICTURE_SIDE, :PICTURE_SIDE] / PICTURE_SIDE
    rings = [np.abs(np.hypot(y - 0.4, x - centre) - 0.14) < 0.045 for centre in (0.28, 0.72)]
    bridge = (np.abs(y - 0.4) < 0.045) & (np.abs(x - 0.5) < 0.08)
    picture = np.zeros((PICTURE_SIDE, PICTURE_SIDE, 4), dtype=np.uint8)
    picture[rings[0] | rings[1] | bridge] = (230, 40, 160, 255)
    return picture


def _one_a_class(labels: Tensor, count: int) -> Tensor:
    """Choose the positions of ``count`` images: the first of each class, then others."""
    first = [int((labels == label).nonzero()[0]) for label in labels.unique().tolist()[:count]]
    others = [position for position in range(len(labels)) if position not in first]
    return torch.tensor([*first, *others][:count])


def _figure(images: Tensor, changed: dict[str, Tensor], shown: int) -> Figure:
    height, width = images.shape[-2:]
    gap = max(1, width // 12)
    figure = new_figure((2.4 + 3.3 * shown, 0.8 + 1.15 * len(changed) * max(1.0, height / width)))
    ratios = (1.5, 3.3 * shown, 0.7)
    panels = figure.subplots(len(changed), 3, squeeze=False, width_ratios=ratios)
    for row, (name, triggered) in zip(panels, changed.items(), strict=True):
        clean, result = images[:shown], triggered[:shown]
        factor = _amplification(result - clean)
        difference = (0.5 + factor * (result - clean) / 2).clamp(0, 1)
        _strip(row[1], torch.stack([clean, result, difference], dim=1), gap)
        size = Size.of(images[shown:], triggered[shown:])
        _write(row[0], 1, f"{name}\ndifference x {factor}", "right", "bold")
        _write(row[2], 0, str(size), "left", "normal")
    for number in range(3 * shown):
        middle = (number + 0.5) * width + (number + number // 3) * gap
        panels[0, 1].text(middle, -gap, COLUMNS[number % 3], ha="center", fontsize=10, color=INK)
    return figure


def _amplification(change: Tensor) -> int:
    """Return the largest factor that keeps the difference in range."""
    largest = float(change.abs().max())
    return next((factor for factor in AMPLIFICATIONS if factor * largest <= 1), 1)


def _strip(panel: Axes, triples: Tensor, gap: int) -> None:
    """Draw pictures [n, 3, C, H, W] side by side, a gap after each and two after every third."""
    channels, height, width = triples.shape[2:]
    count = 3 * len(triples)
    strip = torch.ones(3, height, count * width + (count - 1 + (count - 1) // 3) * gap)
    for number, picture in enumerate(triples.reshape(count, channels, height, width)):
        left = number * width + (number + number // 3) * gap
        strip[:, :, left : left + width] = picture
    panel.imshow(strip.permute(1, 2, 0).numpy(), interpolation="nearest", vmin=0, vmax=1)
    panel.set_axis_off()


def _write(panel: Axes, x: float, text: str, side: Literal["left", "right"], weight: str) -> None:
    panel.text(
        x,
        0.5,
        text,
        transform=panel.transAxes,
        ha=side,
        va="center",
        weight=weight,
        fontsize=10,
        color=INK,
    )
    panel.set_axis_off()
