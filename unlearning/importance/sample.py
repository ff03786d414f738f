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
from .sensitivities import SampleLoss, Sensitivity
from .slow_gradients import Warnings
from .traversal import Traversal
from .working_model import WorkingModel

CPU_BLOCK = 1 << 19
CUDA_BLOCK = 1 << 27
"""Numbers of materialised per-sample gradients: what a processor cache holds, and what keeps a GPU busy."""

Sums = list[dict[str, Tensor]]


class SampleSums:
    """Sums over samples of |gradient|, or its square, for several kinds at once.

    Kinds that differentiate the same loss share one traversal: lf and xlf do, fim takes one of its own.

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
        warnings = Warnings()
        self._traversals = {
            loss: Traversal(model.model, model.parameters, model.buffers, loss, warnings, model.arithmetic)
            for loss in dict.fromkeys(s.differentiated for s in sensitivities)
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
        for loss, traversal in self._traversals.items():
            logits, scales, found = traversal.gradients(x, y)
            # absolute values first: sizes are made in place, and |g| has the square of g
            groups = [(squared, self._alike(loss, squared)) for squared in (False, True)]
            weights = {squared: self._weights(places, logits, scales) for squared, places in groups if places}
            for name in list(found):
                # taken out one by one, so that what a layer saved is free before the next one unfolds
                contributions = found.pop(name)
                for squared, places in groups:
                    if places and contributions:
                        sizes = self._sizes(contributions, weights[squared], squared)
                        for place, value in zip(places, sizes, strict=True):
                            sums[place][name] = value
        return sums

    def _alike(self, loss: SampleLoss, squared: bool) -> list[int]:
        """Return the places of the kinds with this loss and this reduction."""
        kinds = enumerate(self.sensitivities)
        return [i for i, s in kinds if s.differentiated is loss and s.squared == squared]

    def _weights(self, places: Sequence[int], logits: Tensor, scales: Tensor) -> Tensor:
        """Return what each sample's gradient, or its square, is multiplied by: [kinds, samples]."""
        chosen = [self.sensitivities[i] for i in places]
        factors = torch.stack([s.weights(logits) for s in chosen]) / scales
        return factors.square() if chosen[0].squared else factors

    def _sizes(self, contributions: list[PerSample], weights: Tensor, squared: bool) -> Sequence[Tensor]:
        return sums_of_sizes(contributions, weights, squared=squared, budget=self._block).unbind(0)
