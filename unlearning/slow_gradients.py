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

from .inference import first_line

Loss = Callable[[Tensor, Tensor], Tensor]
"""(logits [n, classes], labels [n]) -> one number a sample [n]."""

logger = logging.getLogger(__name__)


class SlowGradients:
    """Materialised per-sample gradients, [n, *shape] a parameter.

    Args:
        model: in eval mode.
        values: all parameters and buffers by name, detached.
        loss: per sample.
    """

    def __init__(self, model: nn.Module, values: Mapping[str, Tensor], loss: Loss) -> None:
        self.model, self.values, self.loss = model, values, loss
        self.vectorised = True

    def __call__(self, names: set[str], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Gradients with respect to the parameters ``names``; says once if it cannot vectorise."""
        wanted = {name: self.values[name] for name in self.values if name in names}
        if self.vectorised:
            try:
                with sdpa_kernel(SDPBackend.MATH):  # vmap only loops over the fused kernels, and warns of it
                    found: dict[str, Tensor] = vmap(grad(self._of_one), (None, 0, 0))(wanted, x, y)
                return found
            except (RuntimeError, NotImplementedError) as error:
                if isinstance(error, torch.OutOfMemoryError):
                    raise
                self._say_so(error)
        rows = [self._one(wanted, x[i : i + 1], y[i : i + 1]) for i in range(len(x))]
        return {name: torch.stack([row[name] for row in rows]) for name in wanted}

    def _of_one(self, wanted: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(self.model, {**self.values, **wanted}, (x[None],))
        return self.loss(logits, y[None])[0]

    def _one(self, wanted: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        leaves = {name: value.detach().requires_grad_() for name, value in wanted.items()}
        with torch.enable_grad():
            logits = functional_call(self.model, {**self.values, **leaves}, (x,))
            loss = self.loss(logits, y).sum()
        values = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return dict(zip(leaves, values, strict=True))

    def _say_so(self, error: Exception) -> None:
        self.vectorised = False
        logger.warning(
            "%s cannot be vectorised over samples (%s); its importances are computed sample by sample, "
            "which gives the same result more slowly",
            type(self.model).__name__,
            first_line(error),
        )
