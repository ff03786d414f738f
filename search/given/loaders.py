"""Datasets and DataLoaders, read in the order of the dataset whatever they shuffle."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)

from ...errors import BadInput
from ...unlearning.inference import Batch
from .pairs import as_pair, check_batch_of, is_batch, stacked
from .reading import COMPARED_SAMPLES, asked, check_same, each, said
from .rereading import Reread
from .workers import death_behind, worker_died

MOST_SAMPLES = 10**9
"""More than any set of images has; a dataset that draws its samples may say any length."""


class Chunks:
    """Positions in batches of one size; the last may be shorter."""

    def __init__(self, order: Sequence[int], size: int) -> None:
        self.order, self.size = order, size

    def __len__(self) -> int:
        return -(-len(self.order) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> list[int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return list(self.order[number * self.size : (number + 1) * self.size])


class Samplewise:
    """Makes a batch of samples, each converted first.

    Args:
        convert: what a loader without batches does to each of them.
        name: what the data are called in error messages.
    """

    def __init__(self, convert: Callable[[Any], Any] | None, name: str) -> None:
        self._convert, self._name = convert, name

    def __call__(self, items: list[Any]) -> Batch:
        convert = self._convert or (lambda item: item)
        return stacked([as_pair(convert(item), self._name) for item in items], self._name)


class Loaded:
    """A map-style dataset, read through a loader like the user's, in a fixed order.

    Args:
        like: the loader whose workers, memory and collation are taken over.
        batches: positions in its dataset, batch by batch.
        name: what the data are called in error messages.
        device: where the batches end up.
        collate: in place of that of ``like``.
    """

    def __init__(
        self,
        like: DataLoader[Any],
        batches: Chunks | list[list[int]],
        *,
        name: str,
        device: torch.device,
        collate: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        self._like, self._batches, self._name, self._device = like, batches, name, device
        self._collate = collate or like.collate_fn
        self._loader = self._loader_of(batches, persistent=True)

    def __len__(self) -> int:
        if isinstance(self._batches, Chunks):
            return len(self._batches.order)
        return sum(map(len, self._batches))

    def __iter__(self) -> Iterator[Batch]:
        for x, y in self._pairs(self._loader, self._batches):
            yield x.to(self._device), y.to(self._device)

    def select(self, rows: Tensor) -> Loaded:
        """Return the samples at ``rows``; see `Batches`."""
        if isinstance(self._batches, Chunks):
            order, size = self._batches.order, self._batches.size
        else:
            order = [row for batch in self._batches for row in batch]
            size = max(map(len, self._batches))
        part = Chunks([order[row] for row in rows.tolist()], size)
        return Loaded(self._like, part, name=self._name, device=self._device, collate=self._collate)

    def check(self) -> Loaded:
        """Read a few samples twice, from all over the set; returns itself.

        Raises:
            BadInput: they differ, or cannot be read.
        """
        some = self._some()
        times = 1 + -(-COMPARED_SAMPLES // sum(map(len, some)))
        rows = some * times
        first: list[Batch] = []
        for number, pair in enumerate(self._pairs(self._loader_of(rows, persistent=False), rows)):
            if number < len(some):
                first.append(pair)
            else:
                check_same(first[number % len(some)], pair, self._name)
        return self

    def _some(self) -> list[list[int]]:
        if isinstance(self._batches, Chunks):
            order, size = self._batches.order, self._batches.size
            spread = torch.linspace(0, len(order) - 1, min(COMPARED_SAMPLES, len(order))).round().int()
            return list(Chunks([order[place] for place in spread.tolist()], size))
        enough = list[list[int]]()
        while sum(map(len, enough)) < min(COMPARED_SAMPLES, len(self)):
            enough.append(self._batches[len(enough)])
        return enough

    def _pairs(self, loader: DataLoader[Any], rows: Chunks | list[list[int]]) -> Iterator[Batch]:
        for number, item in enumerate(each(loader, lambda *what: self._failed(rows, *what))):
            x, y = check_batch_of(*as_pair(item, self._name), self._name)
            if len(y) != len(rows[number]):
                raise BadInput(
                    f"{self._name}: a batch of {len(rows[number])} samples comes as {len(y)}; give a "
                    f"collate_fn that keeps every sample, or the Dataset itself"
                )
            yield x, y

    def _loader_of(self, rows: Chunks | list[list[int]], *, persistent: bool) -> DataLoader[Any]:
        sampler: Any = rows
        return DataLoader(
            self._like.dataset,
            batch_sampler=sampler,
            collate_fn=self._collate,
            **options(self._like, persistent=persistent),
        )

    def _failed(self, rows: Chunks | list[list[int]], number: int, error: Exception) -> BadInput:
        if (
            death := death_behind(error, self._like.num_workers)
        ) is not None:  # what killed a worker would kill this process, too
            return worker_died(self._name, death)
        culprit = next((row for row in rows[number] if _fails(self._like.dataset, row)), None)
        if culprit is not None:
            return BadInput(
                f"{self._name}: sample {culprit} cannot be read ({said(error)}); correct it or leave it out"
            )
        if "stack expects each tensor to be equal size" in str(error):
            return BadInput(
                f"{self._name}: images of mixed size cannot be one batch; resize them to one size"
            )
        return BadInput(
            f"{self._name}: samples {rows[number][0]} to {rows[number][-1]} cannot be made a batch "
            f"({said(error)}); give samples of one kind, and a collate_fn that takes them"
        )


def _fails(dataset: Any, row: int) -> bool:
    try:
        dataset[row]
    except Exception:
        return True
    return False


def options(loader: DataLoader[Any], *, persistent: bool) -> dict[str, Any]:
    """Return what a loader like this one is made with, apart from order, batches and collation."""
    return {
        "num_workers": loader.num_workers,
        "pin_memory": loader.pin_memory,
        "timeout": loader.timeout,
        "worker_init_fn": loader.worker_init_fn,
        "multiprocessing_context": loader.multiprocessing_context,
        "generator": loader.generator,
        "prefetch_factor": loader.prefetch_factor,
        "persistent_workers": loader.persistent_workers and persistent,
        "pin_memory_device": loader.pin_memory_device,
    }


def from_dataset(dataset: Any, name: str, device: torch.device, batch_size: int) -> Loaded | Reread:
    """Load a map-style dataset, of samples or of ready batches.

    Raises:
        BadInput: nothing in it, no length, samples that cannot be read or that differ when read again.
    """
    count = _length(dataset, name)
    first = asked(
        lambda: dataset[0],
        lambda error: BadInput(
            f"{name}: sample 0 cannot be read ({said(error)}); correct it or leave it out"
        ),
    )
    if is_batch(*as_pair(first, name), name):
        return Reread(DataLoader(dataset, batch_size=None), count, name=name, device=device)
    collate = Samplewise(None, name)
    loader: DataLoader[Any] = DataLoader(dataset, batch_size=batch_size)
    rows = Chunks(range(count), batch_size)
    return Loaded(loader, rows, name=name, device=device, collate=collate).check()


def from_loader(loader: DataLoader[Any], name: str, device: torch.device, batch_size: int) -> Loaded | Reread:
    """Load every sample that a DataLoader would give, in the order of its dataset.

    Raises:
        BadInput: as `from_dataset`; or a sampler that repeats samples, leaves other ones out each time, or
            takes the share of one process; or shuffling that a loader does itself.
    """
    if isinstance(loader.dataset, IterableDataset):
        raise BadInput(
            f"{name}: a DataLoader over an IterableDataset has no fixed order and length; give a map-style "
            f"Dataset, or the samples as a list"
        )
    count = _length(loader.dataset, name)
    if _iterates_itself(loader):
        return _as_it_is(loader, count, name, device)
    if loader.batch_sampler is not None:
        rows = _batches(loader.batch_sampler, count, name)
        return Loaded(loader, _some_rows(rows, name), name=name, device=device).check()
    return _without_batches(loader, order_of(loader.sampler, count, name), name, device, batch_size)


def _without_batches(
    loader: DataLoader[Any], order: Sequence[int], name: str, device: torch.device, batch_size: int
) -> Loaded | Reread:
    """Load with ``batch_size=None``: its items are batches, or samples that nobody batches."""
    if not order:
        raise BadInput(f"{name} is empty; give at least one sample")
    sampler: Any = order
    plain: DataLoader[Any] = DataLoader(
        loader.dataset,
        batch_size=None,
        sampler=sampler,
        collate_fn=loader.collate_fn,
        **options(loader, persistent=True),
    )

    def failed(_: int, error: Exception) -> BadInput:
        if (death := death_behind(error, loader.num_workers)) is not None:
            return worker_died(name, death)
        return BadInput(
            f"{name}: sample {order[0]} cannot be read ({said(error)}); correct it or leave it out"
        )

    first = next(each(plain, failed))
    if is_batch(*as_pair(first, name), name):
        return Reread(plain, len(order), name=name, device=device)
    collate = Samplewise(loader.collate_fn, name)
    return Loaded(loader, Chunks(order, batch_size), name=name, device=device, collate=collate).check()


def _as_it_is(loader: DataLoader[Any], count: int, name: str, device: torch.device) -> Reread:
    """Take a loader of another class, which works in its own __iter__, as it is."""
    batch_sampler = loader.batch_sampler
    fixed = type(loader.sampler) is SequentialSampler and type(batch_sampler) in (BatchSampler, type(None))
    if not fixed and not _is_fixed(batch_sampler or loader.sampler, count, name):
        raise BadInput(
            f"{name}: {type(loader).__name__} shuffles in an __iter__ of its own, and a fixed order is "
            f"needed; make it with shuffle=False, or give its Dataset"
        )
    return Reread(loader, asked(lambda: len(loader), _no_length(name)), name=name, device=device)


def _iterates_itself(loader: DataLoader[Any]) -> bool:
    kind = type(loader)
    return kind.__iter__ is not DataLoader.__iter__ or kind._get_iterator is not DataLoader._get_iterator


def _length(dataset: Any, name: str) -> int:
    count: int = asked(lambda: len(dataset), _no_length(name))
    if not count:
        raise BadInput(f"{name} is empty; give at least one sample")
    if count > MOST_SAMPLES:
        raise BadInput(
            f"{name}: says that it holds {count} samples, and {MOST_SAMPLES} are the most that can be read; "
            f"give a Dataset whose length is that of the data"
        )
    return count


def _no_length(name: str) -> Callable[[Exception], BadInput]:
    return lambda error: BadInput(
        f"{name}: its length cannot be told ({said(error)}); give a Dataset with __len__"
    )


def _some_rows(rows: Chunks | list[list[int]], name: str) -> Chunks | list[list[int]]:
    if not len(rows):
        raise BadInput(f"{name} is empty: its sampler gives no samples; give at least one")
    return rows


def _batches(batch_sampler: Any, count: int, name: str) -> Chunks | list[list[int]]:
    """Read positions by batch: of a fixed batch sampler as they are, else in the order of the dataset."""
    if type(batch_sampler) is BatchSampler:
        return Chunks(order_of(batch_sampler.sampler, count, name), batch_sampler.batch_size)
    first, second = _twice(lambda: _read_batches(batch_sampler, count, name))
    flat = [[row for batch in batches for row in batch] for batches in (first, second)]
    order = _one_set(flat[0], flat[1], batch_sampler, count, name)
    return first if first == second else Chunks(order, max(map(len, first)))


def order_of(sampler: Any, count: int, name: str) -> Sequence[int]:
    """Return the positions that a sampler draws, ascending.

    Raises:
        BadInput: it may repeat or leave out samples, differently each time.
    """
    if isinstance(sampler, DistributedSampler) and sampler.num_replicas > 1:
        raise BadInput(
            f"{name}: its DistributedSampler reads the share of process {sampler.rank} of "
            f"{sampler.num_replicas} alone; give the Dataset itself"
        )
    if isinstance(sampler, RandomSampler | WeightedRandomSampler) and sampler.replacement:
        raise _repeats(sampler, name)
    if type(sampler) in (SequentialSampler, RandomSampler) and len(sampler) == count:
        return range(count)
    first, second = _twice(lambda: _read(sampler, count, name))
    return _one_set(first, second, sampler, count, name)


def _one_set(first: list[int], second: list[int], sampler: Any, count: int, name: str) -> list[int]:
    order = sorted(first)
    if order != sorted(second) or len(set(order)) < len(order) or len(order) > count:
        raise _repeats(sampler, name)
    if order and not 0 <= order[0] <= order[-1] < count:
        raise BadInput(
            f"{name}: its sampler asks for sample {order[0] if order[0] < 0 else order[-1]} of {count}; give "
            f"positions from 0 to {count - 1}"
        )
    return order


def _repeats(sampler: Any, name: str) -> BadInput:
    return BadInput(
        f"{name}: a DataLoader with its own sampler ({type(sampler).__name__}) may repeat or leave out "
        f"samples; give the Dataset itself"
    )


def _is_fixed(sampler: Any, count: int, name: str) -> bool:
    first, second = _twice(lambda: _few(sampler, count, name))
    return first == second


def _twice(read: Callable[[], list[Any]]) -> tuple[list[Any], list[Any]]:
    """Read twice; random numbers go on as if there had been no reading."""
    with torch.random.fork_rng(devices=[]):
        return read(), read()


def _read(sampler: Any, count: int, name: str) -> list[int]:
    return [_position(row, name) for row in _few(sampler, count, name)]


def _read_batches(batch_sampler: Any, count: int, name: str) -> list[list[int]]:
    batches, room = list[list[int]](), count
    for batch in _few(batch_sampler, count, name):
        batches.append([_position(row, name) for row in islice(batch, room + 1)])
        room -= len(batches[-1])
        if room < 0:
            break
    return [batch for batch in batches if batch]


def _few(sampler: Iterable[Any], count: int, name: str) -> list[Any]:
    """Draw what a sampler draws, one more than there are samples at most."""

    def failed(_: int, error: Exception) -> BadInput:
        kind = type(sampler).__name__
        return BadInput(f"{name}: its sampler {kind} fails ({said(error)}); give the Dataset itself")

    return list(islice(each(sampler, failed), count + 1))


def _position(row: Any, name: str) -> int:
    try:
        return int(row)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"{name}: its sampler gives {row!r:.40}, no position; give the Dataset itself"
        ) from error
