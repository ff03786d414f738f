"""Where pixels come from: the protocol all sources follow, and the one that sits decoded in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ...errors import BadInput


@runtime_checkable
class ImageSource(Protocol):
    """A labelled set of images of one size, addressed by position."""

    @property
    def labels(self) -> Tensor:
        """Return true labels, int64 [N], on the CPU."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Return class names; label c is named ``classes[c]``."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of every image."""

    def __len__(self) -> int:
        """Return the number of images N."""

    def images(self, positions: Tensor) -> Tensor:
        """Return the pixels at ``positions`` (int64 [n]) as uint8 [n, C, H, W], on the source's device."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryImages:
    """An `ImageSource` that sits decoded in memory, on the CPU or on a GPU.

    Args:
        pixels: uint8 [N, C, H, W].
        labels: int64 [N], in [0, len(classes)).
        classes: class names.

    Raises:
        BadInput: wrong dtype or shape, lengths that differ, or a label out of range.

    Example:
        >>> import torch
        >>> pixels, labels = torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1])
        >>> images = MemoryImages(pixels=pixels, labels=labels, classes=("cat", "dog"))
        >>> len(images), images.shape
        (2, (3, 8, 8))
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.pixels.dtype != torch.uint8 or self.pixels.ndim != 4:
            raise BadInput(
                f"pixels are {self.pixels.dtype} {tuple(self.pixels.shape)}; give uint8 [N, C, H, W]"
            )
        if len(self.pixels) != len(self.labels):
            raise BadInput(
                f"{len(self.pixels)} images but {len(self.labels)} labels; give one label an image"
            )
        check_labels(self.labels, len(self.classes))

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, positions: Tensor) -> Tensor:
        return self.pixels[positions.to(self.pixels.device)]

    def to(self, device: torch.device | str) -> MemoryImages:
        """Return the same images with the pixels on ``device`` (labels stay on the CPU)."""
        return replace(self, pixels=self.pixels.to(device))


def on_device(source: ImageSource, device: torch.device | str) -> ImageSource:
    """Return the same images, with decoded pixels on ``device``; other sources stay where they are.

    Args:
        source: any image source.
        device: where the pixels are wanted.
    """
    return source.to(device) if isinstance(source, MemoryImages) else source


def check_labels(labels: Tensor, num_classes: int) -> None:
    """Refuse labels outside [0, num_classes).

    Args:
        labels: int64 [N].
        num_classes: K.

    Raises:
        BadInput: names the first offending label and its position.
    """
    wrong = ((labels < 0) | (labels >= num_classes)).nonzero().flatten()
    if len(wrong):
        position = int(wrong[0])
        raise BadInput(
            f"label {int(labels[position])} at position {position} is out of range: there are {num_classes} "
            f"classes, so labels go from 0 to {num_classes - 1}; correct the labels or the number of classes"
        )
