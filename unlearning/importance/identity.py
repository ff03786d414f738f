"""Short names for a model and for a set of samples, so that files of importances cannot be mixed up.

They guard against accidents, not against somebody who wants two sets to look alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

MASK = (1 << 64) - 1


def model_identity(values: Mapping[str, Tensor]) -> str:
    """Return 16 hex digits of the SHA-256 of names, shapes, dtypes and bytes of parameters and buffers."""
    digest = hashlib.sha256()
    for name in sorted(values):
        value = values[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class DataIdentity:
    """A number for a set of samples, or of batches, that adds up over parts in any order.

    Every sample gets 64 bits that depend on its values and its label; a set's number is their sum modulo
    2^64. So the number of S_tr minus that of S_f is that of retain, shards may be merged in any order, and a
    sample more or less shows.

    Args:
        batches: number whole batches instead of samples; then boundaries and order within them count.
    """

    def __init__(self, *, batches: bool) -> None:
        self.batches = batches
        self.number = 0
        self._weights: dict[tuple[int, torch.device], Tensor] = {}

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count x [n, ...] with labels y, int64 [n]."""
        samples = self._samples(x, y)
        if self.batches:
            samples = self._mixed(samples[None] * self._of_length(len(samples), x.device)).sum(1)
            samples = self._mixed(samples + len(x))
        self.number = (self.number + sum(samples.tolist())) & MASK

    def _samples(self, x: Tensor, y: Tensor) -> Tensor:
        bits = x.detach().contiguous().flatten(1)
        whole = bits.view(torch.int32) if bits.is_floating_point() else bits.long()
        weights = self._of_length(whole.shape[1], x.device)
        return self._mixed((whole.long() * weights).sum(1) + y.to(x.device) * 0x632BE59BD9B4E019)

    def _of_length(self, length: int, device: torch.device) -> Tensor:
        """Draw odd random numbers, the same on every machine."""
        if (length, device) not in self._weights:
            generator = torch.Generator().manual_seed(length)
            draws = torch.randint(-(1 << 62), 1 << 62, (length,), generator=generator)
            self._weights[length, device] = (2 * draws + 1).to(device)
        return self._weights[length, device]

    @staticmethod
    def _mixed(numbers: Tensor) -> Tensor:
        """Mix numbers as splitmix64 does at its end: values cannot be moved between samples unnoticed."""
        numbers = (numbers ^ (numbers >> 30)) * -0x40A7B892E31B1A47
        numbers = (numbers ^ (numbers >> 27)) * -0x6B2FB644ECCEEE15
        return numbers ^ (numbers >> 31)
