"""The samples of retain that a guarded search watches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..given import Batches


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Samples of retain, drawn at random; int64 positions in the part that is compared.

    Attributes:
        target: of those labelled with a label of S_f which the victim predicts as labelled.
        other: of those labelled otherwise, whatever it predicts: what it mistakes now it may get right.
        target_rate: how often the first sort occurs among all that it predicts as labelled, in [0, 1].
    """

    target: Tensor
    other: Tensor
    target_rate: float


def draw_probe(predictions: Tensor, labels: Tensor, targets: Tensor, *, target: int, other: int) -> Probe:
    """Draw a probe; always the same one of the same data.

    Args:
        predictions: the victim's, int64 [N].
        labels: as given, int64 [N].
        targets: the labels that occur in S_f, int64.
        target: samples of the first sort, at most.
        other: of the second, at most.
    """
    believed, own = predictions == labels, torch.isin(labels, targets)
    first = (believed & own).nonzero().flatten()
    return Probe(
        target=_drawn(first, target),
        other=_drawn((~own).nonzero().flatten(), other),
        target_rate=len(first) / max(1, int(believed.sum())),
    )


def _drawn(positions: Tensor, count: int) -> Tensor:
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(0))
    return positions[order[:count].sort().values]


def take(samples: Batches, positions: Tensor) -> Batches | None:
    """Take the samples at these positions; None if there are none."""
    return samples.select(positions) if len(positions) else None
