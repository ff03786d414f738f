"""The handwritten digits that scikit-learn carries: real images, no download."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .decoding import square
from .images import MemoryImages

IMAGE_SIZE = 16
TEST_IMAGES = 360
SPLIT_SEED = 0
_BRIGHTEST = 16
_CLASSES = tuple(str(digit) for digit in range(10))


def load_digits(image_size: int | None = None) -> tuple[MemoryImages, MemoryImages]:
    """Load (train, test) of 1,437 and 360 grey images, uint8 [N, 1, image_size, image_size].

    Optical Recognition of Handwritten Digits (UCI): 1,797 images of 8 x 8 with grey values 0 to 16, which
    become 0 to 255 and are resized bilinearly. The split is stratified by class and always the same.

    Args:
        image_size: side of the images, `IMAGE_SIZE` unless given.

    Raises:
        BadInput: the size is not a whole number of at least 2.
    """
    size = square(IMAGE_SIZE if image_size is None else image_size)
    # here, because scikit-learn takes a second to import, and only the digits need it
    from sklearn.datasets import load_digits as sklearn_digits

    grey, targets = sklearn_digits(return_X_y=True)
    pixels = functional.interpolate(
        torch.from_numpy(grey).view(-1, 1, 8, 8) * (255 / _BRIGHTEST), size, mode="bilinear", antialias=True
    )
    pixels = pixels.round().clamp(0, 255).to(torch.uint8)
    labels = torch.from_numpy(targets).to(torch.int64)
    train, test = (_part(pixels, labels, rows) for rows in _split(targets))
    return train, test


def _split(targets: np.ndarray) -> tuple[Tensor, Tensor]:
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(targets))
    train, test = train_test_split(rows, test_size=TEST_IMAGES, stratify=targets, random_state=SPLIT_SEED)
    return torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(test))


def _part(pixels: Tensor, labels: Tensor, rows: Tensor) -> MemoryImages:
    return MemoryImages(pixels=pixels[rows], labels=labels[rows], classes=_CLASSES)
