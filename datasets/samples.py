"""Samples that are read in batches of any rows, and some of others; what methods that train are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .augmentation import Augmentation
from .views import BATCH_SIZE


class Samples(Protocol):
    """Samples that are read in batches of any rows; a `View` is one.

    Attributes:
        device: where the batches are made.
        mean, std: of the normalisation, one number a channel: x = (pixels in [0, 1] - mean) / std.
    """

    @property
    def device(self) -> torch.device: ...

    @property
    def mean(self) -> tuple[float, ...]: ...

    @property
    def std(self) -> tuple[float, ...]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all samples in their order, as (x, y) batches."""
        ...

    def batch(
        self, rows: Tensor, augmentation: Augmentation = "none", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return normalised images [n, C, H, W] and labels int64 [n] at ``rows``, int64 [n] on the CPU."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Selected:
    """`Samples` that are some of others.

    Args:
        samples: where the batches come from.
        rows: int64 [N], the rows of ``samples`` that are these, in order.
    """

    samples: Samples
    rows: Tensor

    @property
    def device(self) -> torch.device:
        return self.samples.device

    @property
    def mean(self) -> tuple[float, ...]:
        return self.samples.mean

    @property
    def std(self) -> tuple[float, ...]:
        return self.samples.std

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in torch.arange(len(self)).split(BATCH_SIZE):
            if len(rows):
                yield self.batch(rows)

    def batch(
        self, rows: Tensor, augmentation: Augmentation = "none", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.samples.batch(self.rows[rows], augmentation, generator)


def split(samples: Samples, share: float, generator: torch.Generator) -> tuple[Selected, Selected]:
    """Split samples into (held, rest): ``share`` of them, drawn at random, and the others; at least one each.

    Args:
        samples: two samples or more.
        share: in (0, 1).
        generator: what draws.
    """
    order = torch.randperm(len(samples), generator=generator)
    held = min(max(1, round(share * len(samples))), len(samples) - 1)
    return Selected(samples=samples, rows=order[:held]), Selected(samples=samples, rows=order[held:])
