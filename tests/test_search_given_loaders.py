"""DataLoaders: read as they are meant, in the order of their dataset, or refused by one line."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

from theriac.errors import BadInput
from theriac.search.given.batches import Batches, as_batches

COUNT = 50
X = torch.arange(float(COUNT)).reshape(COUNT, 1, 1, 1)
Y = torch.arange(COUNT) % 5
DATA = TensorDataset(X, Y)


def read(loader: Any) -> Batches:
    return as_batches(loader, name="retain set", device=torch.device("cpu"), batch_size=16)


def positions(batches: Batches) -> list[int]:
    return [int(value) for x, _ in batches for value in x.flatten()]


class Seeded(Sampler[int]):
    """The same order every time."""

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(COUNT, generator=torch.Generator().manual_seed(3)).tolist())


class Pairs(Sampler[list[int]]):
    """Batches of two, in another order every time."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter(torch.randperm(COUNT).view(-1, 2).tolist())


EVEN = list(range(0, COUNT, 2))

WHOLE: dict[str, tuple[Callable[[], DataLoader[Any]], list[int]]] = {
    "shuffled": (lambda: DataLoader(DATA, 8, shuffle=True), list(range(COUNT))),
    "drops": (lambda: DataLoader(DATA, 8, shuffle=True, drop_last=True), list(range(COUNT))),
    "positions": (lambda: DataLoader(DATA, 8, sampler=EVEN), EVEN),
    "a subset at random": (lambda: DataLoader(DATA, 8, sampler=SubsetRandomSampler(EVEN)), EVEN),
    "weights without repetition": (
        lambda: DataLoader(DATA, 8, sampler=WeightedRandomSampler([1.0] * COUNT, COUNT, replacement=False)),
        list(range(COUNT)),
    ),
    "the only process": (
        lambda: DataLoader(DATA, 8, sampler=DistributedSampler(DATA, 1, 0)),
        list(range(COUNT)),
    ),
    "a fixed order": (lambda: DataLoader(DATA, 8, sampler=Seeded()), list(range(COUNT))),
    "batches at random": (
        lambda: DataLoader(DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 8, drop_last=True)),
        list(range(COUNT)),
    ),
    "batches of one's own at random": (lambda: DataLoader(DATA, batch_sampler=Pairs()), list(range(COUNT))),
    "fixed batches": (lambda: DataLoader(DATA, batch_sampler=[[4, 2], [7, 1, 3]]), [4, 2, 7, 1, 3]),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_every_sample_once_in_a_fixed_order(kind: str) -> None:
    make, order = WHOLE[kind]
    batches = read(make())
    assert len(batches) == len(order)
    assert positions(batches) == positions(batches) == order
    rows = torch.tensor([0, 2, len(order) - 1])
    assert positions(batches.select(rows)) == [order[row] for row in rows.tolist()]


def test_sizes_of_batches_are_kept() -> None:
    def sizes(loader: DataLoader[Any]) -> list[int]:
        return [len(y) for _, y in read(loader)]

    assert sizes(DataLoader(DATA, 20, shuffle=True)) == [20, 20, 10]
    assert sizes(DataLoader(DATA, batch_sampler=[[4, 2], [7, 1, 3]])) == [2, 3]
    assert sizes(DataLoader(DATA, batch_sampler=BatchSampler(RandomSampler(DATA), 20, False))) == [20, 20, 10]
    assert sizes(DataLoader(DATA, batch_sampler=Pairs())) == [2] * 25
    assert sizes(DataLoader(DATA, batch_size=None)) == [16, 16, 16, 2]


class Ready(Dataset[Any]):
    def __init__(self, size: int) -> None:
        self.batches = list(zip(X.split(size), Y.split(size), strict=True))

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Any:
        return self.batches[number]


@pytest.mark.parametrize("held", ["the dataset", "in order", "shuffled"])
def test_ready_batches_are_counted_by_samples(held: str) -> None:
    data = Ready(8)
    given = data if held == "the dataset" else DataLoader(data, batch_size=None, shuffle=held == "shuffled")
    batches = read(given)
    assert len(batches) == COUNT
    assert positions(batches) == list(range(COUNT))
    assert [len(y) for _, y in batches] == [8] * 6 + [2]
    assert positions(batches.select(torch.tensor([1, 9, 49]))) == [1, 9, 49]


class OnlyInWorkers(Dataset[Any]):
    """Opened by ``worker_init_fn`` in every worker."""

    opened = False

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, position: int) -> Any:
        if not self.opened or get_worker_info() is None:
            raise RuntimeError("not opened")
        return X[position], int(Y[position])


def open_in_worker(_: int) -> None:
    info = get_worker_info()
    assert info is not None
    dataset: Any = info.dataset
    dataset.opened = True


def test_workers_are_kept() -> None:
    loader = DataLoader(
        OnlyInWorkers(),
        8,
        shuffle=True,
        num_workers=1,
        worker_init_fn=open_in_worker,
        prefetch_factor=3,
        persistent_workers=True,
        timeout=60,
        multiprocessing_context="fork",
    )
    batches = read(loader)
    assert positions(batches) == list(range(COUNT))
    assert positions(batches.select(torch.tensor([3, 4]))) == [3, 4]


class Reader(DataLoader[Any]):
    """Works in its own __iter__; ``times`` more than it says."""

    times = 1

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for _ in range(self.times):
            for x, y in super().__iter__():
                yield x + 1, y


class Endless(Reader):
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        return itertools.cycle(super().__iter__())


def test_a_loader_with_an_iter_of_its_own_is_read_as_it_is() -> None:
    batches = read(Reader(DATA, 8))
    assert positions(batches) == list(range(1, COUNT + 1))
    assert len(batches) == COUNT
    assert positions(batches.select(torch.tensor([0, 30]))) == [1, 31]


def twice(items: list[Any]) -> Any:
    x, y = torch.utils.data.default_collate(items)
    return torch.cat([x, x]), torch.cat([y, y])


class Growing(Dataset[Any]):
    def __getitem__(self, position: int) -> Any:
        return X[position], 0


class Vast(Growing):
    def __len__(self) -> int:
        return 10**12


class Draws(Sampler[int]):
    """Other samples every time."""

    def __iter__(self) -> Iterator[int]:
        return iter(torch.randperm(COUNT)[:20].tolist())


class Fails(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        raise KeyError("no weights")


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "repetition": (
        lambda: DataLoader(DATA, sampler=WeightedRandomSampler([1.0] * COUNT, COUNT)),
        "own sampler .WeightedRandomSampler. may repeat or leave out",
    ),
    "random repetition": (
        lambda: DataLoader(DATA, sampler=RandomSampler(DATA, replacement=True)),
        "own sampler .RandomSampler. may repeat",
    ),
    "a part each time": (lambda: DataLoader(DATA, sampler=Draws()), "own sampler .Draws. may repeat"),
    "positions twice": (lambda: DataLoader(DATA, sampler=[1, 1, 2]), "may repeat"),
    "endless positions": (lambda: DataLoader(DATA, sampler=Forever()), "may repeat"),
    "endless batches": (lambda: DataLoader(DATA, batch_sampler=ForeverInBatches()), "may repeat"),
    "positions beyond": (lambda: DataLoader(DATA, sampler=[1, COUNT]), "asks for sample 50 of 50"),
    "no positions": (lambda: DataLoader(DATA, sampler=["a"]), "its sampler gives 'a', no position"),
    "nothing": (lambda: DataLoader(DATA, sampler=[]), "is empty: its sampler gives no samples"),
    "a sampler that fails": (
        lambda: DataLoader(DATA, sampler=Fails()),
        "Fails fails .KeyError: 'no weights'",
    ),
    "a share": (
        lambda: DataLoader(DATA, sampler=DistributedSampler(DATA, 4, 1)),
        "reads the share of process 1 of 4 alone",
    ),
    "shuffled in its own iter": (lambda: Reader(DATA, 8, shuffle=True), "Reader shuffles in an __iter__"),
    "an iter without end": (lambda: Endless(DATA, 8), "yields more batches than its length, 7"),
    "samples doubled": (lambda: DataLoader(DATA, 8, collate_fn=twice), "a batch of 8 samples comes as 16"),
    "no length": (lambda: Growing(), "length cannot be told .TypeError"),
    "no end": (lambda: Vast(), "says that it holds 1000000000000 samples"),
}


class Forever(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        return itertools.cycle(range(COUNT))


class ForeverInBatches(Sampler[list[int]]):
    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(itertools.count())


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_fixed_order_is_refused(kind: str) -> None:
    make, said = REFUSED[kind]
    with pytest.raises(BadInput, match=said) as caught:
        read(make())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("retain set")


class Worker(Dataset[Any]):
    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, position: int) -> Any:
        if position == 17:
            raise ValueError("broken pixel\nin the middle")
        return X[position], int(Y[position])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_of_a_dataset_names_the_sample(workers: int) -> None:
    with pytest.raises(BadInput, match=r"retain set: sample 17 cannot be read \(ValueError") as caught:
        positions(read(DataLoader(Worker(), 8, shuffle=True, num_workers=workers)))
    assert "\n" not in str(caught.value)
