"""Whatever a user holds samples in, as samples that can be read at any rows, for methods that train."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..datasets.augmentation import Augmentation, augment
from ..datasets.views import BATCH_SIZE, View
from ..errors import BadInput
from ..unlearning.unlearner import Samples
from .inputs import as_batches

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of images in [0, 1], one number each or one a channel."""


class HeldSamples:
    """Preprocessed samples in memory.

    Args:
        x: images as the model takes them, float [N, C, H, W].
        y: labels, int64 [N].
        normalisation: what was done to pixels in [0, 1]; (0,), (1,) if nothing.
    """

    def __init__(self, x: Tensor, y: Tensor, normalisation: Normalisation) -> None:
        channels = x.shape[1]
        self._x, self._y = x, y
        self.mean, self.std = (one * channels if len(one) == 1 else one for one in normalisation)

    @property
    def device(self) -> torch.device:
        """Where the batches are made."""
        return self._x.device

    def __len__(self) -> int:
        return len(self._y)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self._x.split(BATCH_SIZE), self._y.split(BATCH_SIZE), strict=True)

    def batch(
        self, rows: Tensor, augmentation: Augmentation = "none", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Samples`; crops are padded with pixels of 0, as those of a `View` are."""
        x, y = self._x[rows.to(self.device)], self._y[rows.to(self.device)]
        if augmentation == "none":
            return x, y
        black = torch.tensor([-mean / std for mean, std in zip(self.mean, self.std, strict=True)])
        black = black.to(x).view(1, -1, 1, 1)
        return augment(x - black, augmentation, generator or torch.default_generator) + black, y


def as_samples(
    data: Any, *, name: str, device: torch.device, normalisation: Normalisation | None = None
) -> Samples:
    """``data`` as `Samples` on ``device``; all but a `View` is held in memory.

    Args:
        data: see `as_batches`.
        name: what the data are called in error messages.
        device: where the batches end up.
        normalisation: of data that are no `View`; None: none, and every value lies in [0, 1].

    Raises:
        BadInput: as `as_batches`; images that are no [C, H, W]; or values beyond [0, 1] whose normalisation
            is not given.
    """
    if isinstance(data, View):
        return data
    x, y = (torch.cat(parts) for parts in zip(*as_batches(data, name=name, device=device), strict=True))
    if x.ndim != 4 or not x.is_floating_point():
        raise BadInput(
            f"{name}: images are {x.dtype} {tuple(x.shape)}; give float [N, channels, height, width]"
        )
    if normalisation is None and not (x.min() >= 0 and x.max() <= 1):
        raise BadInput(
            f"{name}: values from {x.min():.3g} to {x.max():.3g} are no pixels in [0, 1], and methods that "
            f"train must know which are; give mean=... and std=... of the normalisation"
        )
    return HeldSamples(x, y, normalisation or ((0.0,), (1.0,)))
