"""Samples that are held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...unlearning.inference import Batch
from .pairs import as_images, as_labels, as_pair, check_batch_of, is_batch, stacked
from .reading import COMPARED_SAMPLES, check_same, each, said

MOST_SAMPLES = 100_000
MOST_BYTES = 512 << 20
"""What is read of an iterable that does not say how long it is."""


class Held:
    """Batches that sit in a list.

    Args:
        batches: at least one sample; images [N, ...] and labels int64 [N].
        device: where they are given out.
    """

    def __init__(self, batches: Sequence[Batch], device: torch.device) -> None:
        self._batches = batches
        self._device = device

    @property
    def labels(self) -> Tensor:
        """Return all labels, int64 [N], on the CPU."""
        return torch.cat([y.cpu() for _, y in self._batches])

    def __len__(self) -> int:
        return sum(len(y) for _, y in self._batches)

    def __iter__(self) -> Iterator[Batch]:
        return ((x.to(self._device), y.to(self._device)) for x, y in self._batches)

    def select(self, rows: Tensor) -> Held:
        """Return the samples at ``rows``, those of one shape together; see `Batches`."""
        parts: dict[torch.Size, list[Batch]] = {}
        start = 0
        for x, y in self._batches:
            own = rows[(rows >= start) & (rows < start + len(y))] - start
            start += len(y)
            if len(own):
                parts.setdefault(x.shape[1:], []).append((x[own.to(x.device)], y[own.to(y.device)]))
        size = max(len(y) for _, y in self._batches)
        return Held([batch for pairs in parts.values() for batch in _joined(pairs, size)], self._device)


def _joined(pairs: list[Batch], size: int) -> Iterator[Batch]:
    """Join samples of one shape to batches of ``size``."""
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return zip(x.split(size), y.split(size), strict=True)


def held_columns(x: Any, y: Any, name: str, device: torch.device, batch_size: int) -> Held:
    """Hold images and labels that come as two columns.

    Raises:
        BadInput: they are of different lengths or empty, or no images and class numbers.
    """
    labels = as_labels(y, name)
    if not labels.numel():
        raise BadInput(f"{name} is empty; give at least one sample")
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    return _split(*check_batch_of(as_images(x, name), labels, name), device, batch_size)


def held(data: Iterable[Any], name: str, device: torch.device, batch_size: int) -> Held:
    """Hold the samples or batches of an iterable, read once; its beginning twice unless it is a list.

    Raises:
        BadInput: there is nothing in it, it does not end (see `MOST_SAMPLES`), two readings differ, or it
            holds no images with class numbers.
    """
    most = len(data) if isinstance(data, Sized) else None
    failed = _failed(name)
    pairs: list[Batch] = []
    room = _Room(name, most)
    for item in each(data, failed):
        pairs.append(as_pair(item, name))
        room.take(pairs[-1])
    if not isinstance(data, list | tuple):
        for pair, item in zip(pairs[:COMPARED_SAMPLES], each(data, failed), strict=False):
            check_same(pair, as_pair(item, name), name)
    if not any(y.numel() for _, y in pairs):
        raise BadInput(f"{name} is empty; give at least one sample")
    if not is_batch(*pairs[0], name):
        single = next((number for number, (_, y) in enumerate(pairs) if y.ndim), None)
        if single is not None:
            raise BadInput(f"{name}: item {single} is a batch and item 0 a sample; give one or the other")
        return _split(*stacked(pairs, name), device, batch_size)
    return Held([check_batch_of(x, y, name) for x, y in pairs if y.numel()], device)


class _Room:
    """How much more of an iterable is read."""

    def __init__(self, name: str, most: int | None) -> None:
        self._name, self._most = name, most
        self._items, self._samples, self._bytes = 0, 0, 0

    def take(self, pair: Batch) -> None:
        """Count an item."""
        self._items += 1
        self._samples += max(1, pair[1].numel())
        self._bytes += pair[0].nbytes
        if self._most is not None and self._items > self._most:
            raise BadInput(
                f"{self._name}: yields more items than its length, {self._most}; give a list, or a Dataset "
                f"with __getitem__ and __len__"
            )
        if self._most is None and (self._samples > MOST_SAMPLES or self._bytes > MOST_BYTES):
            raise BadInput(
                f"{self._name}: does not say its length and has not ended after {self._samples} samples "
                f"({self._bytes >> 20} MiB); give a Dataset with __getitem__ and __len__, or "
                f"list(itertools.islice(data, n))"
            )


def _failed(name: str) -> Callable[[int, Exception], BadInput]:
    return lambda number, error: BadInput(
        f"{name}: item {number} cannot be read ({said(error)}); correct it or leave it out"
    )


def _split(x: Tensor, y: Tensor, device: torch.device, batch_size: int) -> Held:
    return Held(list(zip(x.split(batch_size), y.split(batch_size), strict=True)), device)
