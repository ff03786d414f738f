"""Granularity "sample": sensitivities of single samples, as the papers write them.

Rounding. A chunk of n samples is summed in the precision of the gradients (unit u = 2^-24 in float32), chunks
in float64. No term is negative, so every sum is within (n + 1) u of the sum of the rounded terms, relative to
itself: 3.1e-5 for the 512 samples of the largest chunk, however many chunks follow (float64 adds less than
3e-13 for the 2500 of ImageNet); usually near sqrt(n) u = 1.3e-6. Shards merge in any order within 1e-12, as
their sums are float64. In a difference I(S_tr) - I(S_f) both errors are relative to I(S_tr), the larger sum:
what is left of a parameter that only S_f uses is rounding. The gradients themselves carry the rounding of a
float32 forward and backward pass, about 1e-6 of a tensor's largest entry, as with plain autograd. In reduced
precision a sample's gradient is rounded to it, and everything after that is as above.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from ..memory import LARGEST, ChunkSize, chunk_budget, ran_out
from .per_sample import PerSample, sums_of_sizes
from .sensitivities import Sensitivity, cross_entropy, norm
from .slow_gradients import Warnings
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
        chunk_size: samples at once; None: what `chunks.chunk_budget` allows a model of this size, at most
            512, whatever memory is free. Only rounding depends on it.

    Attributes:
        totals: sums by parameter name, one dict for each of ``sensitivities``.
        count: samples in the sums.
        chunk: samples at once; halved when memory runs out.
    """

    def __init__(
        self, model: WorkingModel, sensitivities: Sequence[Sensitivity], chunk_size: int | None
    ) -> None:
        self.model, self.sensitivities = model, sensitivities
        self.totals: Sums = [model.zeros() for _ in sensitivities]
        self.count = 0
        self.chunk = ChunkSize(chunk_size or LARGEST)
        self._fitted_to: int | None = None if chunk_size is None else sys.maxsize
        self._block = CUDA_BLOCK if model.device.type == "cuda" else CPU_BLOCK
        losses = {s.squared: cross_entropy if s.squared else norm for s in sensitivities}
        warnings = Warnings()
        self._traversals = {
            squared: Traversal(model.model, model.parameters, model.buffers, loss, warnings, model.arithmetic)
            for squared, loss in losses.items()
        }

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count samples; a chunk that does not fit into memory is tried again in smaller ones."""
        while len(x):
            size = 1
            try:
                self._fit(x[:2], y[:2])
                size = min(self.chunk.size, len(x))
                slow = self._slow()
                for traversal in self._traversals.values():
                    traversal.check(x[:size], y[:size])
                if self._slow() > slow:
                    continue  # a sample takes more memory than it seemed to
                sums = self._sums(x[:size], y[:size])
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
                self.chunk.halve(size)
                continue
            for total, part in zip(self.totals, sums, strict=True):
                for name, value in part.items():
                    total[name] += value
            self.count += size
            x, y = x[size:], y[size:]

    def _slow(self) -> int:
        return sum(len(traversal.slow) for traversal in self._traversals.values())

    def _fit(self, x: Tensor, y: Tensor) -> None:
        """Find the chunk size, if nobody gave one, and again when more takes the slow path."""
        if self._fitted_to is None or self._fitted_to < self._slow():
            needs = max(traversal.bytes_per_sample(x, y) for traversal in self._traversals.values())
            self.chunk.size = max(1, min(self.chunk.size, chunk_budget(x.device) // needs))
            self._fitted_to = self._slow()

    def _sums(self, x: Tensor, y: Tensor) -> Sums:
        sums: Sums = [{} for _ in self.sensitivities]
        for squared, traversal in self._traversals.items():
            places = [i for i, s in enumerate(self.sensitivities) if s.squared == squared]
            logits, scales, found = traversal.gradients(x, y)
            units = scales.square() if squared else scales
            weights = torch.stack([self.sensitivities[i].weights(logits) / units for i in places])
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
