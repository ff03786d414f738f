"""A view: a fixed-order selection of a source, with triggers where they belong, ready for a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .augmentation import Augmentation, augment
from .normalisation import normalisation, over_channels
from .seeding import seeded_generator
from .sources import ImageSource
from .triggers import Trigger

if TYPE_CHECKING:
    from .normalisation import Numbers

__all__ = ["BATCH_SIZE", "NO_TRIGGER", "View", "plain_view", "seeded_generator"]

BATCH_SIZE = 512
NO_TRIGGER = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """Samples of a source as a model sees them; iterating yields (x, y) batches in fixed order.

    x is float32 [n, C, H, W]: pixels in [0, 1], augmented if asked, then triggered, then normalised.
    y is int64 [n], the label as given (the poison label where a sample is poisoned).

    Args:
        source: where the pixels come from.
        positions: int64 [N], positions in the source; also what a trigger sees as the sample's index.
        labels: int64 [N], labels as given.
        which: int64 [N], the number of the trigger that each sample carries, or `NO_TRIGGER`.
        triggers: applied to [0, 1] images; what ``which`` counts.
        mean: per-channel mean of the normalisation.
        std: per-channel standard deviation of the normalisation.
        device: where the batches are made.
        batch_size: samples per batch; the last batch may be shorter.
    """

    source: ImageSource
    positions: Tensor
    labels: Tensor
    which: Tensor
    triggers: tuple[Trigger, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: torch.device
    batch_size: int = BATCH_SIZE

    def __len__(self) -> int:
        return len(self.positions)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.arange(len(self)).split(self.batch_size):
            if len(rows):
                yield self.batch(rows)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return class names; label c is named ``classes[c]``."""
        return self.source.classes

    @property
    def true_labels(self) -> Tensor:
        """Return the labels of the source (int64 [N]): held-out truth, never shown to an unlearner."""
        return self.source.labels[self.positions]

    @property
    def triggered(self) -> Tensor:
        """Tell which samples carry a trigger, bool [N]."""
        return self.which != NO_TRIGGER

    def select(self, rows: Tensor) -> View:
        """Return the samples at ``rows`` of this view (int64 or bool)."""
        return replace(self, positions=self.positions[rows], labels=self.labels[rows], which=self.which[rows])

    def batched(self, batch_size: int) -> View:
        """Return the same samples in batches of another size."""
        return replace(self, batch_size=batch_size)

    def pixels(
        self, rows: Tensor, augmentation: Augmentation = "none", generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the images at ``rows`` before normalisation: float32 [n, C, H, W] in [0, 1].

        Args:
            rows: int64 [n], positions in the view.
            augmentation: for instance "crop_flip"; triggers are added after it.
            generator: of the augmentation; None: torch's global one.
        """
        images = self.source.images(self.positions[rows]).to(self.device).float().div_(255)
        if augmentation != "none":
            images = augment(images, augmentation, generator or torch.default_generator)
        return self._with_trigger(images, rows)

    def batch(
        self, rows: Tensor, augmentation: Augmentation = "none", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return (x, y) at ``rows``, see the class.

        Args:
            rows: int64 [n], positions in the view.
            augmentation: for instance "crop_flip"; triggers are added after it.
            generator: of the augmentation; None: torch's global one.
        """
        shape = (1, -1, 1, 1)
        mean = torch.tensor(self.mean, device=self.device).view(shape)
        std = torch.tensor(self.std, device=self.device).view(shape)
        x = (self.pixels(rows, augmentation, generator) - mean) / std
        return x, self.labels[rows].to(self.device)

    def _with_trigger(self, images: Tensor, rows: Tensor) -> Tensor:
        carried, index = self.which[rows], self.positions[rows]
        for number, trigger in enumerate(self.triggers):
            where = (carried == number).nonzero().flatten()
            if len(where):
                place = where.to(self.device)
                triggered = trigger(images[place], index[where].to(self.device))
                images = images.index_copy(0, place, triggered)
        return images


def plain_view(
    source: ImageSource,
    *,
    mean: Numbers = 0.0,
    std: Numbers = 1.0,
    device: torch.device | str = "cpu",
) -> View:
    """View all images of ``source`` as they are, under their own labels.

    For sets that go together, `local.load_sets` reads folders or Parquet files by one list of classes.

    Args:
        source: the images.
        mean: of images in [0, 1], as in training; one number counts for all channels.
        std: standard deviation, likewise.
        device: where the batches are made.

    Raises:
        BadInput: a mean or standard deviation that is none, or not of one number a channel.

    Example:
        >>> from theriac.datasets.sources import load_dataset
        >>> view = plain_view(load_dataset("digits").test, mean=0.5, std=0.5)
        >>> x, y = next(iter(view))
        >>> len(view), float(x.min()), float(x.max())
        (360, -1.0, 1.0)
    """
    means, deviations = over_channels(normalisation(mean, std), source.shape[0])
    return View(
        source=source,
        positions=torch.arange(len(source)),
        labels=source.labels,
        which=torch.full((len(source),), NO_TRIGGER),
        triggers=(),
        mean=means,
        std=deviations,
        device=torch.device(device),
    )
