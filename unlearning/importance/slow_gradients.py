"""Per-sample gradients of any model and any of its parameters: exact, and slow.

`torch.func` vectorises plain autograd over samples; where it cannot (a forward pass that looks at values,
say), samples are taken one by one. Used for the parameters that `traversal` has no faster way for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..inference import first_line
from ..memory import ran_out
from ..models import differentiable
from .working_model import gradients_of

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits [n, classes], labels [n]) -> one number a sample [n]."""

logger = logging.getLogger(__name__)


class Warnings:
    """Says each thing once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, message: str) -> None:
        """Log a warning, unless the same one has been logged."""
        if message not in self._said:
            logger.warning("%s", message)
        self._said.add(message)


class SlowGradients:
    """Materialised per-sample gradients, [n, *shape] a parameter.

    Args:
        model: in eval mode.
        values: all parameters and buffers by name, detached.
        loss: per sample.
        warnings: where to say that samples are taken one by one.
    """

    def __init__(
        self, model: nn.Module, values: Mapping[str, Tensor], loss: Loss, warnings: Warnings
    ) -> None:
        self.model, self.values, self.loss, self.warnings = model, values, loss, warnings
        self.vectorised = True

    def __call__(self, names: set[str], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the gradients with respect to the parameters ``names``; x is left as it is."""
        wanted = {name: self.values[name] for name in self.values if name in names}
        if self.vectorised:
            try:
                with sdpa_kernel(SDPBackend.MATH):  # vmap only loops over the fused kernels, and warns of it
                    found: dict[str, Tensor] = vmap(grad(self._of_one), (None, 0, 0))(wanted, x.clone(), y)
                return found
            except RuntimeError as error:  # also what PyTorch has not implemented
                if ran_out(error):
                    raise
                self.one_by_one(first_line(error))
        rows = [self.one(wanted, x[i : i + 1].clone(), y[i : i + 1]) for i in range(len(x))]
        return {name: torch.stack([row[name] for row in rows]) for name in wanted}

    def _of_one(self, wanted: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return self.loss(self._logits(wanted, x[None]), y[None])[0]

    def _logits(self, wanted: Mapping[str, Tensor], x: Tensor) -> Tensor:
        with differentiable(self.model):
            logits: Tensor = functional_call(self.model, {**self.values, **wanted}, (x,))
        return logits

    def one(self, wanted: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Return the gradients of one sample x [1, ...], which may be written into, by plain autograd."""
        leaves = {name: value.detach().requires_grad_() for name, value in wanted.items()}
        with torch.enable_grad():
            loss = self.loss(self._logits(leaves, x), y).sum()
        if not loss.requires_grad:
            return {name: torch.zeros_like(value) for name, value in wanted.items()}
        return gradients_of(loss, leaves)

    def one_by_one(self, reason: str) -> None:
        """Take samples one at a time from now on, and say why."""
        self.vectorised = False
        self.warnings.say(
            f"{type(self.model).__name__} cannot be vectorised over samples ({reason}); its "
            f"importances are computed sample by sample, which gives the same result more slowly"
        )
