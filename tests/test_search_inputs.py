"""Random parts of whatever samples are held in."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from theriac.datasets.images import MemoryImages
from theriac.datasets.views import plain_view
from theriac.search.inputs import Batches, as_batches, random_part

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
