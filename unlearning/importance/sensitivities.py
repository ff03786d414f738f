"""What is differentiated: one number a sample, and how its gradient becomes a sensitivity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..kinds import Kind


@dataclass(frozen=True)
class Sensitivity:
    """One kind of importance.

    Args:
        kind: "fim", "lf" or "xlf".
        exponent: w of ||f(x)||_2^w; None for "fim".
    """

    kind: Kind
    exponent: float | None

    @property
    def squared(self) -> bool:
        """Whether gradients are squared instead of taken without their sign."""
        return self.exponent is None

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """One number a sample [n]: the cross-entropy with the label, or ||f||_2^w (gradient 0 at f = 0)."""
        if self.exponent is None:
            return cross_entropy(logits, labels)
        if self.exponent == 2.0:
            return logits.square().sum(1)
        return _power(logits, self.exponent)

    def weights(self, logits: Tensor) -> Tensor:
        """By what a sample's |gradient of ||f||| is multiplied, [n]: w ||f||^(w - 1), 0 at f = 0.

        The chain rule makes every kind that looks at the norm a multiple of the same gradient, sample by
        sample, so that one backward pass serves them all.
        """
        norms = torch.linalg.vector_norm(logits, dim=1)
        if self.exponent is None or self.exponent == 1.0:
            return torch.ones_like(norms)
        powers = torch.where(norms > 0, norms, torch.ones_like(norms)) ** (self.exponent - 1.0)
        return torch.where(norms > 0, self.exponent * powers, torch.zeros_like(norms))


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of each sample with its label, [n]."""
    return F.cross_entropy(logits, labels, reduction="none")


def norm(logits: Tensor, labels: Tensor) -> Tensor:
    """||f||_2 of each sample, [n]; its gradient at f = 0 is 0, not NaN."""
    return _power(logits, 1.0)


def _power(logits: Tensor, exponent: float) -> Tensor:
    squares = logits.square().sum(1)
    nonzero = squares > 0
    safe = torch.where(nonzero, squares, torch.ones_like(squares))
    return torch.where(nonzero, safe ** (exponent / 2), torch.zeros_like(safe))
