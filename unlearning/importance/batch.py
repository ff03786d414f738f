"""Granularity "batch": sensitivities of batch means, as the authors' programs compute them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from ..memory import ChunkSize, ran_out
from .sensitivities import Sensitivity
from .working_model import WorkingModel, gradients_of

Gradients = list[dict[str, Tensor]]


class BatchSums:
    """Sums over batches of |gradient of the mean loss| (squared for fim), for several kinds at once.

    All kinds share a forward pass; each takes a backward pass of its own.

    Args:
        model: whose gradients.
        sensitivities: which losses.
        chunk_size: samples at once, None for the whole batch. Only rounding depends on it.

    Attributes:
        totals: sums by parameter name, one dict for each of ``sensitivities``.
        count: batches in the sums.
        chunk: samples at once; halved when memory runs out.
    """

    def __init__(
        self, model: WorkingModel, sensitivities: Sequence[Sensitivity], chunk_size: int | None
    ) -> None:
        self.model, self.sensitivities = model, sensitivities
        self.chunk = ChunkSize(chunk_size or sys.maxsize)
        self.totals: Gradients = [model.zeros() for _ in sensitivities]
        self.count = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count one batch, whatever its length."""
        gradients = self._mean_gradients(x, y)
        while gradients is None:
            gradients = self._mean_gradients(x, y)
        for s, total, found in zip(self.sensitivities, self.totals, gradients, strict=True):
            for name, gradient in found.items():
                total[name] += gradient.square() if s.squared else gradient.abs()
        self.count += 1

    def _mean_gradients(self, x: Tensor, y: Tensor) -> Gradients | None:
        """Return the gradients of the mean losses, summed over chunks; None if memory was too small."""
        size = min(self.chunk.size, len(x))
        sums: Gradients = [{} for _ in self.sensitivities]
        try:
            for xs, ys in zip(x.split(size), y.split(size), strict=True):
                for gradients, part in zip(sums, self._gradients(xs, ys, len(x)), strict=True):
                    for name, gradient in part.items():
                        gradients[name] = gradients[name] + gradient if name in gradients else gradient
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            self.chunk.halve(size)
            return None
        return sums

    def _gradients(self, x: Tensor, y: Tensor, count: int) -> Gradients:
        leaves = self.model.trainable()
        with torch.enable_grad():
            logits = self.model.logits(leaves, x.clone())
            losses = [s.loss(logits, y).sum() / count for s in self.sensitivities]
        if self.model.arithmetic.scaled:
            return [self._scaled(loss, logits, leaves, count) for loss in losses]
        last = len(losses) - 1
        return [gradients_of(loss, leaves, keep=i < last) for i, loss in enumerate(losses)]

    def _scaled(
        self, loss: Tensor, logits: Tensor, leaves: dict[str, Tensor], count: int
    ) -> dict[str, Tensor]:
        """Compute gradients through a pass that is scaled so that little underflows in float16."""
        (outer,) = torch.autograd.grad(loss, logits, retain_graph=True)
        scale = self.model.arithmetic.batch_scale(outer, count)
        found = gradients_of(logits, leaves, outer * scale, keep=True)
        return {name: gradient / scale for name, gradient in found.items()}
