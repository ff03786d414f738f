"""Batches that can only be read as a whole, from beginning to end, as often as needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...unlearning.inference import Batch
from .held import Held
from .pairs import as_pair, check_batch_of
from .reading import COMPARED_SAMPLES, check_same, each, said
from .workers import death_behind, worker_died


class Reread:
    """Batches of a loader that makes them in its own way, or of a dataset that holds ready batches.

    Reads all of them once, to know how many samples there are, and the beginning twice.

    Args:
        loader: yields batches in a fixed order, again and again.
        most: so many batches at most.
        name: what the data are called in error messages.
        device: where the batches end up.

    Raises:
        BadInput: no samples, more batches than ``most``, two readings that differ, or no batches of images
            and class numbers.
    """

    def __init__(self, loader: Iterable[Any], most: int, *, name: str, device: torch.device) -> None:
        self._loader, self._most, self._name, self._device = loader, most, name, device
        beginning: list[Batch] = []
        self._count = 0
        for x, y in self._read():
            if self._count < COMPARED_SAMPLES:
                beginning.append((x.clone(), y.clone()))
            self._count += len(y)
        if not self._count:
            raise BadInput(f"{name} is empty; give at least one sample")
        for first, again in zip(beginning, self._read(), strict=False):
            check_same(first, again, name)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Batch]:
        found = 0
        for x, y in self._read():
            found += len(y)
            yield x.to(self._device), y.to(self._device)
        if found != self._count:
            raise BadInput(
                f"{self._name}: held {self._count} samples at first and {found} now; give data that "
                f"stay the same"
            )

    def select(self, rows: Tensor) -> Held:
        """Return the samples at ``rows``, held in memory; see `Batches`."""
        start, parts, largest = 0, list[Batch](), 1
        for x, y in self._read():
            own = rows[(rows >= start) & (rows < start + len(y))] - start
            start, largest = start + len(y), max(largest, len(y))
            if len(own):
                parts.append((x[own.to(x.device)].cpu(), y[own.to(y.device)].cpu()))
        whole = Held(parts, self._device)
        return whole.select(torch.arange(len(whole)))

    def _read(self) -> Iterator[Batch]:
        for number, item in enumerate(each(self._loader, self._failed)):
            if number >= self._most:
                raise BadInput(
                    f"{self._name}: yields more batches than its length, {self._most}; give a loader that "
                    f"ends"
                )
            pair = check_batch_of(*as_pair(item, self._name), self._name)
            if len(pair[1]):
                yield pair

    def _failed(self, number: int, error: Exception) -> BadInput:
        if (death := death_behind(error, getattr(self._loader, "num_workers", 0))) is not None:
            return worker_died(self._name, death)
        return BadInput(
            f"{self._name}: batch {number} cannot be read ({said(error)}); correct it or leave it out"
        )
