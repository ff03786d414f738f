"""Whatever a user holds samples in, as batches that can be read again and again in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, Subset

from ..datasets.views import BATCH_SIZE, View
from ..errors import BadInput

Pair = tuple[Tensor, Tensor]


class Batches(Protocol):
    """Re-iterable (x, y) batches in a fixed order; ``len`` is the number of SAMPLES."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Pair]: ...

    def select(self, rows: Tensor) -> Batches:
        """The samples at ``rows``, int64, ascending."""
        ...


def random_part(batches: Batches, count: int) -> Batches:
    """``count`` of the samples, always the same ones of as many, in their order; all, if there are fewer."""
    if count >= len(batches):
        return batches
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(0))
    return batches.select(order[:count].sort().values)


def as_batches(data: Any, *, name: str, device: torch.device, batch_size: int = BATCH_SIZE) -> Batches:
    """``data`` as `Batches` on ``device``.

    Args:
        data: a `View`, a map-style Dataset of (x, y), a DataLoader (its order is replaced by the order of
            its dataset), a pair of tensors (images, labels), or an iterable of (x, y) that can be read more
            than once, of single samples or of batches.
        name: what the data are called in error messages.
        device: where the batches end up.
        batch_size: samples per batch; DataLoaders and iterables of batches keep theirs.

    Raises:
        BadInput: nothing in it, a generator, labels missing, or images of mixed size.
    """
    if isinstance(data, View):
        return data.batched(batch_size)
    if isinstance(data, str | Path):
        raise BadInput(
            f"{name}: {str(data)!r} is a path, and how its images were preprocessed is not known; give "
            f"plain_view(load_images({str(data)!r}), mean=..., std=...) of theriac.datasets.views and .local"
        )
    if isinstance(data, DataLoader):
        return _Loader(_in_order(data, name), name, device)
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        return _from_tensors(data[0], data[1], name, device, batch_size)
    if isinstance(data, Iterator):
        raise BadInput(
            f"{name}: a generator can be read only once and theriac needs several passes; give a list, a "
            f"Dataset or a DataLoader"
        )
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        return _Loader(DataLoader(data, batch_size=batch_size), name, device)
    if isinstance(data, Iterable):
        return _from_iterable(data, name, device, batch_size)
    raise BadInput(
        f"{name}: {type(data).__name__} holds no samples that can be read; give a Dataset, a DataLoader, "
        f"a pair of tensors (images, labels) or an iterable of (x, y)"
    )


class _Stored:
    """Batches that sit in a list."""

    def __init__(self, batches: Sequence[Pair], device: torch.device) -> None:
        self._batches = batches
        self._device = device

    def __len__(self) -> int:
        return sum(len(y) for _, y in self._batches)

    def __iter__(self) -> Iterator[Pair]:
        return ((x.to(self._device), y.to(self._device)) for x, y in self._batches)

    def select(self, rows: Tensor) -> _Stored:
        parts: dict[torch.Size, list[Pair]] = {}
        start = 0
        for x, y in self._batches:
            own = rows[(rows >= start) & (rows < start + len(y))] - start
            start += len(y)
            if len(own):
                parts.setdefault(x.shape[1:], []).append((x[own.to(x.device)], y[own.to(y.device)]))
        size = max(len(y) for _, y in self._batches)
        return _Stored([batch for pairs in parts.values() for batch in _joined(pairs, size)], self._device)


def _joined(pairs: list[Pair], size: int) -> Iterator[Pair]:
    """Samples of one shape in batches of ``size``."""
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return zip(x.split(size), y.split(size), strict=True)


class _Loader:
    """A DataLoader in the order of its dataset."""

    def __init__(self, loader: DataLoader[Any], name: str, device: torch.device) -> None:
        self._loader = loader
        self._name = name
        self._device = device
        if not len(self):
            raise BadInput(f"{name} is empty; give at least one sample")

    def __len__(self) -> int:
        dataset: Any = self._loader.dataset
        return len(dataset)

    def __iter__(self) -> Iterator[Pair]:
        try:
            for item in self._loader:
                x, y = _pair(item, self._name)
                yield x.to(self._device), y.to(self._device)
        except RuntimeError as error:
            if "stack expects each tensor to be equal size" in str(error):
                raise BadInput(
                    f"{self._name}: images of mixed size cannot be one batch; resize them to one size"
                ) from error
            raise

    def select(self, rows: Tensor) -> _Loader:
        part = Subset(self._loader.dataset, rows.tolist())
        return _Loader(_like(self._loader, part), self._name, self._device)


def _like(loader: DataLoader[Any], dataset: Dataset[Any]) -> DataLoader[Any]:
    """A loader of ``dataset`` in order."""
    return DataLoader(
        dataset,
        batch_size=loader.batch_size or BATCH_SIZE,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
    )


def _in_order(loader: DataLoader[Any], name: str) -> DataLoader[Any]:
    """The same loader without shuffling; other samplers are refused, their order is not known to be fixed."""
    if isinstance(loader.dataset, IterableDataset):
        raise BadInput(
            f"{name}: a DataLoader over an IterableDataset has no fixed order and length; give a map-style "
            f"Dataset"
        )
    if isinstance(loader.sampler, SequentialSampler) and not loader.drop_last:
        return loader
    if loader.batch_size is None or not isinstance(loader.sampler, SequentialSampler | RandomSampler):
        raise BadInput(
            f"{name}: a DataLoader with its own sampler ({type(loader.sampler).__name__}) may repeat or "
            f"leave out samples; give the Dataset itself"
        )
    return _like(loader, loader.dataset)


def _pair(item: Any, name: str) -> Pair:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise BadInput(f"{name}: yields {type(item).__name__} instead of (x, y); give images with labels")
    x, y = item
    if not isinstance(x, Tensor):
        raise BadInput(
            f"{name}: images are {type(x).__name__}, not tensors; transform them as in training (ToTensor, "
            f"Normalize)"
        )
    labels = torch.as_tensor(y)
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise BadInput(f"{name}: labels are {labels.dtype}; give class numbers as integers")
    return x, labels.to(torch.int64)


def _from_iterable(data: Iterable[Any], name: str, device: torch.device, batch_size: int) -> Batches:
    pairs = [_pair(item, name) for item in data]
    if not pairs:
        raise BadInput(f"{name} is empty; give at least one sample")
    if pairs[0][1].ndim == 0:
        shapes = {tuple(x.shape) for x, _ in pairs}
        if len(shapes) > 1:
            raise BadInput(f"{name}: images of mixed size {sorted(shapes)[:2]}; resize them to one size")
        images, labels = zip(*pairs, strict=True)
        return _from_tensors(torch.stack(images), torch.stack(labels), name, device, batch_size)
    for x, y in pairs:
        _check_lengths(x, y, name)
    return _Stored([pair for pair in pairs if len(pair[1])], device)


def _from_tensors(x: Tensor, y: Tensor, name: str, device: torch.device, batch_size: int) -> Batches:
    x, y = _pair((x, y), name)
    _check_lengths(x, y, name)
    if not len(y):
        raise BadInput(f"{name} is empty; give at least one sample")
    return _Stored(list(zip(x.split(batch_size), y.split(batch_size), strict=True)), device)


def _check_lengths(x: Tensor, y: Tensor, name: str) -> None:
    if y.ndim != 1 or x.ndim < 2 or len(x) != len(y):
        raise BadInput(f"{name}: images {tuple(x.shape)} with labels {tuple(y.shape)}; give [N, ...] and [N]")
