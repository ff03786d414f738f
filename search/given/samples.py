"""Whatever a user holds samples in, as samples that can be read at any rows, for methods that train."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ...datasets.augmentation import Augmentation, augment
from ...datasets.normalisation import Normalisation, over_channels
from ...datasets.samples import Samples
from ...datasets.views import BATCH_SIZE, View
from ...errors import BadInput
from ...unlearning.inference import Batch
from .batches import Batches, as_batches

SLACK = 0.25
"""So far beyond [0, 1] pixels may go that were resized in float or rounded to half precision."""


class HeldSamples:
    """Preprocessed samples in memory.

    Args:
        x: images as the model takes them, float [N, C, H, W].
        y: labels, int64 [N].
        normalisation: what was done to pixels in [0, 1]; (0,), (1,) if nothing.
    """

    def __init__(self, x: Tensor, y: Tensor, normalisation: Normalisation) -> None:
        self._x, self._y = x, y
        self.mean, self.std = over_channels(normalisation, x.shape[1])

    @property
    def labels(self) -> Tensor:
        """Return all labels, int64 [N]."""
        return self._y

    @property
    def device(self) -> torch.device:
        """Return the device on which the batches are made."""
        return self._x.device

    def __len__(self) -> int:
        return len(self._y)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self._x.split(BATCH_SIZE), self._y.split(BATCH_SIZE), strict=True)

    def batch(
        self, rows: Tensor, augmentation: Augmentation = "none", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the batch at ``rows``, see `Samples`; crops are padded with pixels of 0, as a `View`'s."""
        x, y = self._x[rows.to(self.device)], self._y[rows.to(self.device)]
        if augmentation == "none":
            return x, y
        black = torch.tensor([-mean / std for mean, std in zip(self.mean, self.std, strict=True)])
        black = black.to(x).view(1, -1, 1, 1)
        return augment(x - black, augmentation, generator or torch.default_generator) + black, y


def as_samples(
    data: Any,
    *,
    name: str,
    device: torch.device,
    normalisation: Normalisation | None = None,
    dtype: torch.dtype = torch.float32,
) -> Samples:
    """Return ``data`` as `Samples` on ``device``; all but a `View` is held in memory.

    Args:
        data: see `as_batches`.
        name: what the data are called in error messages.
        device: where the batches end up.
        normalisation: of data that are no `View`; None: none, and every value lies in [0, 1].
        dtype: of the images that are held.

    Raises:
        BadInput: as `as_batches`; images that are no [C, H, W] or of mixed size; values beyond [0, 1] whose
            normalisation is not given, or that it does not bring back there; a `View` with another one.
    """
    if isinstance(data, View):
        return _with_own(data, name, normalisation)
    x, y = _joined(as_batches(data, name=name, device=device), name)
    if x.ndim != 4 or not x.is_floating_point():
        raise BadInput(
            f"{name}: images are {x.dtype} {tuple(x.shape)}; give float [N, channels, height, width]"
        )
    given = over_channels(normalisation or ((0.0,), (1.0,)), x.shape[1])
    _check_range(x, normalisation, given, name)
    return HeldSamples(x.to(dtype), y, given)


def _joined(batches: Batches, name: str) -> Batch:
    pairs = list(batches)
    shapes = {tuple(x.shape[1:]) for x, _ in pairs}
    if len(shapes) > 1:
        raise BadInput(f"{name}: images of mixed size {sorted(shapes)[:2]}; resize them to one size")
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


def _with_own(view: View, name: str, normalisation: Normalisation | None) -> View:
    if normalisation is not None and over_channels(normalisation, len(view.mean)) != (view.mean, view.std):
        raise BadInput(
            f"{name}: it has a normalisation of its own (mean {view.mean}, std {view.std}), another than the "
            f"mean and std given; leave those out"
        )
    return view


def _check_range(x: Tensor, normalisation: Normalisation | None, given: Normalisation, name: str) -> None:
    if not torch.isfinite(x).all():
        return  # said of the sample by whoever passes it through the model
    if normalisation is None and not (x.min() >= 0 and x.max() <= 1):
        raise BadInput(
            f"{name}: values from {x.min():.3g} to {x.max():.3g} are no pixels in [0, 1], and methods that "
            f"train must know which are; give mean=... and std=... of the normalisation"
        )
    mean, std = (torch.tensor(one).to(x).view(1, -1, 1, 1) for one in given)
    lowest, highest = (float(edge(x * std + mean)) for edge in (torch.min, torch.max))
    if normalisation is not None and (lowest < -SLACK or highest > 1 + SLACK):
        raise BadInput(
            f"{name}: with the mean and std given, pixels go from {lowest:.3g} to {highest:.3g} and not from "
            f"0 to 1; give the mean and std that the images were normalised with"
        )
