"""What is differentiated: one number a sample, and how its gradient becomes a sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..kinds import KINDS, Kind, Loss

SampleLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits [n, classes], labels [n]) -> one number a sample, [n]."""


@dataclass(frozen=True)
class Sensitivity:
    """A kind of importance, at work.

    Args:
        kind: one of `KINDS`.
        power: w of ||f(x)||_2^w where the loss is the norm; None: 1.
    """

    kind: Kind
    power: float | None = None

    @property
    def squared(self) -> bool:
        """Tell whether gradients are squared instead of taken without their sign."""
        return KINDS[self.kind].reduction == "square"

    @property
    def differentiated(self) -> SampleLoss:
        """Return the loss of the backward pass; kinds that have it in common share that pass."""
        return DIFFERENTIATED[KINDS[self.kind].loss]

    @property
    def exponent(self) -> float | None:
        """Return w of ||f(x)||_2^w; None where the loss is not a norm."""
        return {"cross_entropy": None, "squared_norm": 2.0, "norm": self.power or 1.0}[KINDS[self.kind].loss]

    @property
    def labels_count(self) -> bool:
        """Tell whether the loss looks at the labels."""
        return KINDS[self.kind].loss == "cross_entropy"

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return one number a sample [n]: the cross-entropy, or ||f||_2^w (its gradient at f = 0 is 0)."""
        if self.exponent is None:
            return self.differentiated(logits, labels)
        if self.exponent == 2.0:
            return logits.square().sum(1)
        return _power(logits, self.exponent)

    def weights(self, logits: Tensor) -> Tensor:
        """Return what each sample's gradient of `differentiated` is multiplied by, [n].

        That is w ||f||^(w - 1) for a power of the norm, 0 at f = 0: the chain rule makes every kind that
        looks at the norm a multiple of the same gradient, sample by sample. For other losses it is 1.
        """
        norms = torch.linalg.vector_norm(logits, dim=1)
        if self.exponent is None or self.exponent == 1.0:
            return torch.ones_like(norms)
        powers = torch.where(norms > 0, norms, torch.ones_like(norms)) ** (self.exponent - 1.0)
        return torch.where(norms > 0, self.exponent * powers, torch.zeros_like(norms))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each sample with its label, [n]."""
    return F.cross_entropy(logits, labels, reduction="none")


def norm(logits: Tensor, labels: Tensor) -> Tensor:
    """Return ||f||_2 of each sample, [n]; its gradient at f = 0 is 0, not NaN."""
    return _power(logits, 1.0)


DIFFERENTIATED: Mapping[Loss, SampleLoss] = {
    "cross_entropy": cross_entropy,
    "squared_norm": norm,
    "norm": norm,
}
"""Loss -> what is differentiated for it; every power of the norm follows from the norm itself."""


def _power(logits: Tensor, exponent: float) -> Tensor:
    squares = logits.square().sum(1)
    nonzero = squares > 0
    safe = torch.where(nonzero, squares, torch.ones_like(squares))
    return torch.where(nonzero, safe ** (exponent / 2), torch.zeros_like(safe))
