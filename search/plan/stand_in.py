"""A dataset that is not on this machine, made up to measure with: as many images, as large, of noise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...datasets.sources import DATASETS, ImageDataset, labels_of

STORED = 32
"""Side of the datasets that have no size of their own among `DATASETS`: CIFAR-10 and CIFAR-100."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Noise:
    """An `ImageSource` of random pixels, drawn when they are asked for.

    Args:
        labels: int64 [N].
        classes: class names.
        shape: (channels, height, width).
    """

    labels: Tensor
    classes: tuple[str, ...]
    shape: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, positions: Tensor) -> Tensor:
        drawn = torch.Generator().manual_seed(len(positions))
        return torch.randint(256, (len(positions), *self.shape), generator=drawn, dtype=torch.uint8)


def stand_in(name: str, *, root: Path | None, image_size: int | None) -> ImageDataset:
    """Make up a dataset of `DATASETS`, as large as it was published.

    Args:
        name: its name; it must not be on this machine.
        root: folder of the datasets; None for the default.
        image_size: side of the images; None: the dataset's own.
    """
    counts, spec = labels_of(name, root=root, image_size=image_size), DATASETS[name]
    shape = counts.shape or (len(spec.mean), STORED, STORED)
    classes = tuple(map(str, range(counts.classes)))
    train = Noise(labels=counts.train, classes=classes, shape=shape)
    test = Noise(labels=torch.arange(counts.test) % counts.classes, classes=classes, shape=shape)
    return ImageDataset(name=name, train=train, test=test, mean=spec.mean, std=spec.std)
