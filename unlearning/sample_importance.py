"""Granularity "sample": sensitivities of single samples, as the papers write them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .chunks import LARGEST, ChunkSize, budget
from .layer_gradients import PerSample, sums_of_sizes
from .sensitivities import Sensitivity, cross_entropy, norm
from .traversal import Traversal
from .working_model import WorkingModel

CPU_BLOCK = 1 << 19
CUDA_BLOCK = 1 << 27
"""Numbers of materialised per-sample gradients: what a processor cache holds, and what keeps a GPU busy."""

Sums = list[dict[str, Tensor]]


class SampleSums:
    """Sums over samples of |gradient| for several kinds at once.

    All kinds that look at the norm of the logits share one traversal; fim takes one of its own.

    Args:
        model: whose gradients.
        sensitivities: the kinds.
        chunk_size: samples at once; None: as many as memory allows. Only rounding depends on it.

    Attributes:
        totals: sums by parameter name, one dict for each of ``sensitivities``.
        count: samples in the sums.
    """

    def __init__(
        self, model: WorkingModel, sensitivities: Sequence[Sensitivity], chunk_size: int | None
    ) -> None:
        self.model, self.sensitivities = model, sensitivities
        self.totals: Sums = [model.zeros() for _ in sensitivities]
        self.count = 0
        self._chunk = None if chunk_size is None else ChunkSize(chunk_size)
        self._block = CUDA_BLOCK if model.device.type == "cuda" else CPU_BLOCK
        losses = {s.squared: cross_entropy if s.squared else norm for s in sensitivities}
        self._traversals = {
            squared: Traversal(model.model, model.parameters, model.buffers, loss)
            for squared, loss in losses.items()
        }

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count samples; a chunk that does not fit into memory is tried again in smaller ones."""
        if self._chunk is None:
            self._chunk = ChunkSize(self._fitting(x[:1], y[:1]))
        while len(x):
            size = min(self._chunk.size, len(x))
            try:
                sums = self._sums(x[:size], y[:size])
            except torch.OutOfMemoryError:
                self._chunk.halve(size)
                continue
            for total, part in zip(self.totals, sums, strict=True):
                for name, value in part.items():
                    total[name] += value
            self.count += size
            x, y = x[size:], y[size:]

    def _fitting(self, x: Tensor, y: Tensor) -> int:
        needs = max(traversal.bytes_per_sample(x, y) for traversal in self._traversals.values())
        return min(LARGEST, budget(x.device) // needs)

    def _sums(self, x: Tensor, y: Tensor) -> Sums:
        sums: Sums = [{} for _ in self.sensitivities]
        for squared, traversal in self._traversals.items():
            places = [i for i, s in enumerate(self.sensitivities) if s.squared == squared]
            logits, found = traversal.gradients(x, y)
            weights = torch.stack([self.sensitivities[i].weights(logits) for i in places])
            for name in list(found):
                # taken out one by one, so that what a layer saved is free before the next one unfolds
                for place, value in zip(places, self._sizes(found.pop(name), weights, squared), strict=False):
                    sums[place][name] = value
        return sums

    def _sizes(self, contributions: list[PerSample], weights: Tensor, squared: bool) -> Sequence[Tensor]:
        if not contributions:
            return ()
        sizes = sums_of_sizes(contributions, weights, squared=squared, budget=self._block)
        return sizes.unbind(0)
