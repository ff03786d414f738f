"""Granularity "batch": sensitivities of batch means, as the authors' programs compute them."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from .chunks import ChunkSize
from .sensitivities import Sensitivity
from .working_model import WorkingModel, gradients_of


class BatchSums:
    """Sums over batches of |gradient of the mean loss| (squared for fim).

    Args:
        model: whose gradients.
        sensitivity: which loss.
        chunk_size: samples at once, None for the whole batch. Only rounding depends on it.
    """

    def __init__(self, model: WorkingModel, sensitivity: Sensitivity, chunk_size: int | None) -> None:
        self.model, self.sensitivity = model, sensitivity
        self.chunk = ChunkSize(chunk_size or sys.maxsize)
        self.total = model.zeros()
        self.count = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count one batch, whatever its length."""
        gradients = self._mean_gradients(x, y)
        while gradients is None:
            gradients = self._mean_gradients(x, y)
        for name, gradient in gradients.items():
            self.total[name] += gradient.square() if self.sensitivity.squared else gradient.abs()
        self.count += 1

    def _mean_gradients(self, x: Tensor, y: Tensor) -> dict[str, Tensor] | None:
        """Gradients of the mean loss, summed over chunks; None if that did not fit into memory."""
        size = min(self.chunk.size, len(x))
        gradients: dict[str, Tensor] = {}
        try:
            for xs, ys in zip(x.split(size), y.split(size), strict=True):
                for name, gradient in self._gradients(xs, ys, len(x)).items():
                    gradients[name] = gradients[name] + gradient if name in gradients else gradient
        except torch.OutOfMemoryError:
            self.chunk.halve(size)
            return None
        return gradients

    def _gradients(self, x: Tensor, y: Tensor, count: int) -> dict[str, Tensor]:
        leaves = self.model.trainable()
        with torch.enable_grad():
            loss = self.sensitivity.loss(self.model.logits(leaves, x.clone()), y).sum() / count
        return gradients_of(loss, leaves)
