"""Random parts of whatever samples are held in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset

from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.views import plain_view
from theriac.errors import BadInput
from theriac.search.given.batches import Batches, as_batches, check_classes, class_names, random_part

COUNT = 100
X = torch.arange(float(COUNT)).reshape(COUNT, 1, 1, 1)
Y = torch.arange(COUNT)


def view() -> object:
    pixels = torch.arange(COUNT, dtype=torch.uint8).reshape(COUNT, 1, 1, 1)
    return plain_view(MemoryImages(pixels=pixels, labels=Y, classes=tuple(map(str, range(COUNT)))))


HELD_IN = {
    "a view": view(),
    "tensors": (X, Y),
    "batches of 7": list(zip(X.split(7), Y.split(7), strict=True)),
    "samples": [(x, int(y)) for x, y in zip(X, Y, strict=True)],
    "a dataset": TensorDataset(X, Y),
    "a loader": DataLoader(TensorDataset(X, Y), batch_size=9, shuffle=True),
}


def batches(held_in: str) -> Batches:
    return as_batches(HELD_IN[held_in], name="retain set", device=torch.device("cpu"), batch_size=16)


@pytest.mark.parametrize("held_in", HELD_IN)
def test_the_same_samples_whatever_they_are_held_in(held_in: str):
    part = random_part(batches(held_in), 30)
    assert len(part) == 30
    labels = torch.cat([y for _, y in part])
    expected = torch.cat([y for _, y in random_part(batches("tensors"), 30)])
    assert torch.equal(labels, expected)
    positions = labels.tolist()
    assert positions == sorted(set(positions))
    assert 20 < sum(positions) / 30 < 80
    assert max(len(y) for _, y in part) > 5
    values = torch.cat([x for x, _ in part]).flatten()
    assert torch.equal(values * (255 if held_in == "a view" else 1), labels.float())


@pytest.mark.parametrize("held_in", HELD_IN)
def test_all_of_them_if_there_are_fewer(held_in: str):
    whole = batches(held_in)
    assert random_part(whole, COUNT) is whole
    assert random_part(whole, COUNT + 1) is whole


def test_images_of_two_sizes_stay_in_batches_of_one_size():
    data = [(torch.zeros(5, 1, 2, 2), torch.arange(5)), (torch.zeros(3, 1, 4, 4), torch.arange(5, 8))]
    part = as_batches(data, name="retain set", device=torch.device("cpu")).select(torch.tensor([0, 3, 6]))
    assert [(tuple(x.shape), y.tolist()) for x, y in part] == [((2, 1, 2, 2), [0, 3]), ((1, 1, 4, 4), [6])]


class Cycle(IterableDataset):
    """Never ends; ``item`` again and again, or what it gives."""

    def __init__(self, item: Any) -> None:
        self.item = item

    def __iter__(self) -> Iterator[Any]:
        return itertools.repeat(self.item)


class Sized(Cycle):
    def __len__(self) -> int:
        return 10


def read(data: Any) -> Batches:
    return as_batches(data, name="retain set", device=torch.device("cpu"), batch_size=16)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "endless samples": (lambda: Cycle((X[0], 0)), "has not ended after 1001 samples"),
    "endless batches": (
        lambda: Cycle((X[:5].expand(-1, 3, 2000, 2000), Y[:5])),
        "has not ended after .* MiB",
    ),
    "endless empty batches": (lambda: Cycle((X[:0], Y[:0])), "has not ended"),
    "longer than it says": (lambda: Sized((X[0], 0)), "yields more items than its length, 10"),
    "a tensor": (lambda: X, "Tensor .100, 1, 1, 1. has no labels"),
    "an array": (lambda: X.numpy(), "ndarray .100, 1, 1, 1. has no labels"),
    "a set": (lambda: {(1, 2)}, "a set has no fixed order"),
    "splits": (lambda: {"train": TensorDataset(X, Y)}, "a dict of several sets .'train'.; give one of them"),
    "a model": (lambda: torch.nn.Linear(1, 1), "a model holds no samples"),
    "a class": (lambda: TensorDataset, "the class TensorDataset holds no samples"),
    "nothing": (lambda: None, "NoneType holds no samples"),
    "two labels": (lambda: [{"image": X[0], "label": 0, "target": 1}], "cannot be told which"),
    "no image": (
        lambda: [{"pixels": X[0], "label": 0}],
        "of the columns 'pixels', 'label' it cannot be told",
    ),
    "label and image": (lambda: [(0, X[0])], "yields .label, image.; give .image, label."),
    "one row or a batch": (
        lambda: [(torch.zeros(1, 8, 8), [0])],
        "an image .1, 8, 8. comes with labels .1,.",
    ),
    "batches and samples": (lambda: [(X[0], 0), (X[:3], Y[:3])], "item 1 is a batch and item 0 a sample"),
    "objects": (lambda: (np.array([None] * 3), np.arange(3)), "images are an array of object"),
    "labels of objects": (lambda: (X[:3], np.array(["a", "b", "c"])), "labels are ndarray"),
    "labels of times": (lambda: (X[:1], np.array(["2020-01-01"], "M8[D]")), "labels are ndarray"),
    "huge labels": (lambda: (X[:1], [2**70]), "labels are list of int"),
    "complex images": (lambda: (X[:1] * 1j, Y[:1]), "images are torch.complex64"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_holds_no_samples_is_one_line(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("theriac.search.given.held.MOST_SAMPLES", 1000)
    make, said = REFUSED[kind]
    with pytest.raises(BadInput, match=said) as caught:
        read(make())
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("retain set: ")


def flipped(array: np.ndarray) -> np.ndarray:
    """The same numbers, backwards in memory."""
    return array[::-1].copy()[::-1]


READ: dict[str, Callable[[], Any]] = {
    "arrays that may not be written": lambda: (np.broadcast_to(X.numpy(), X.shape), Y.numpy()),
    "arrays backwards in memory": lambda: (flipped(X.numpy()), flipped(Y.numpy())),
    "arrays of the other byte order": lambda: (X.numpy().astype(">f4"), Y.numpy().astype(">i8")),
    "small labels": lambda: (X, Y.numpy().astype(np.uint8)),
    "unsigned labels": lambda: (X, Y.numpy().astype(np.uint64)),
    "labels in a column": lambda: (X, Y[:, None]),
    "labels one in a row": lambda: TensorDataset(X.view(COUNT, 1), Y[:, None]),
    "images and labels in lists": lambda: (list(X), Y.tolist()),
    "labels of numpy": lambda: [(x.numpy(), np.int64(y)) for x, y in zip(X, Y, strict=True)],
    "tensors that need gradients": lambda: (X.clone().requires_grad_(), Y),
    "sparse images": lambda: (X.view(COUNT, 1).to_sparse(), Y),
    "a tuple of batches": lambda: tuple(zip(X.split(7), Y.split(7), strict=True)),
}


@pytest.mark.parametrize("kind", READ)
def test_what_can_be_read_without_guessing(kind: str):
    batches = list(read(READ[kind]()))
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    assert torch.equal(x.flatten(), X.flatten())
    assert torch.equal(y, Y)
    assert (x.dtype, y.dtype, x.requires_grad) == (torch.float32, torch.int64, False)


class Named(TensorDataset):
    def __init__(self, *classes: str) -> None:
        super().__init__(X, Y)
        self.classes = list(classes)


class Feature:
    names = ("cat", "dog")


class WithFeatures(TensorDataset):
    def __init__(self) -> None:
        super().__init__(X, Y)
        self.features = {"image": object(), "label": Feature()}


def test_class_names_are_found():
    named = Named("cat", "dog")
    for data in (named, Subset(named, [0]), DataLoader(named), DataLoader(Subset(Subset(named, [0]), [0]))):
        assert class_names(data) == ("cat", "dog")
    assert class_names(ConcatDataset([named, Subset(named, [1])])) == ("cat", "dog")
    assert class_names(WithFeatures()) == ("cat", "dog")
    assert class_names(view()) == tuple(map(str, range(COUNT)))
    nameless: list[Any] = [(X, Y), TensorDataset(X, Y), ConcatDataset([named, Named("dog", "cat")]), [(X, Y)]]
    for other in nameless:
        assert class_names(other) is None


def test_sets_must_number_classes_alike():
    check_classes({"forget set": Named("cat"), "retain set": Named("cat", "dog"), "clean set": (X, Y)})
    with pytest.raises(BadInput, match="class 0 is 'dog' in the forget set and 'cat' in the retain set"):
        check_classes({"forget set": Named("dog"), "retain set": Named("cat", "dog")})
    with pytest.raises(BadInput, match="class 1 is 'dog' in the retain set and 'emu' in the clean set"):
        check_classes({"retain set": Named("cat", "dog"), "clean set": Named("cat", "emu")})


def label(number: int) -> list[Any]:
    return [number, torch.tensor(number), np.int64(number), np.array(number)]


@pytest.mark.parametrize("shape", [(5,), (8, 8), (3, 8, 8), (1, 3, 8, 8)])
@pytest.mark.parametrize("y", label(2))
@pytest.mark.parametrize("made", [torch.rand, np.random.default_rng(0).random])
def test_a_single_sample_is_a_set_of_one(shape: tuple[int, ...], y: Any, made: Callable[..., Any]):
    x = made(shape)
    for data in ((x, y), [x, y], {"image": x, "label": y}):
        one = as_batches(data, name="forget set", device=torch.device("cpu"))
        ((images, labels),) = one
        assert labels.tolist() == [2]
        assert images.shape == (1, *(shape[1:] if len(shape) == 4 else shape))


@pytest.mark.parametrize(
    "data",
    [
        (torch.rand(2, 3, 8, 8), torch.tensor(1)),
        (torch.tensor(1), torch.rand(3, 8, 8)),
        (torch.tensor(1), torch.tensor(1)),
        (torch.rand(3, 8, 8), torch.tensor(1.0)),
        (torch.rand(3, 8, 8), True),
        ([], torch.tensor(1)),
    ],
)
def test_what_is_no_single_sample_is_one_line(data: Any):
    with pytest.raises(BadInput, match="forget set") as caught:
        as_batches(data, name="forget set", device=torch.device("cpu"))
    assert "\n" not in str(caught.value)
