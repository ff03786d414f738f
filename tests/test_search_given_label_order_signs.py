"""Telling another order of the labels from a weak, a damaged or a poisoned victim, by predictions alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from theriac.search.given.label_order_signs import Moved, relabelling

CLASSES, EACH = 10, 50


def labels(each: int = EACH, classes: int = CLASSES) -> Tensor:
    return torch.arange(classes).repeat_interleave(each)


def weak(truth: Tensor, accuracy: float, classes: int = CLASSES) -> Tensor:
    """Predictions that are right this often; mistakes go to a class drawn at random."""
    generator = torch.Generator().manual_seed(0)
    right = torch.rand(len(truth), generator=generator) < accuracy
    guesses = torch.randint(classes, (len(truth),), generator=generator)
    return torch.where(right, truth, guesses)


def numbered(truth: Tensor, numbers: list[int]) -> Tensor:
    return torch.tensor(numbers)[truth]


TEXT = [0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2]
"""Twelve classes in the order of their names: 0, 1, 10, 11, 2, ..."""
ORDERS: dict[str, tuple[Tensor, Tensor, int]] = {
    "all shifted": (labels(), numbered(labels(), [*range(1, 10), 0]), 10),
    "two exchanged": (labels(), numbered(labels(), [0, 1, 2, 4, 3, 5, 6, 7, 8, 9]), 2),
    "sorted as text": (labels(classes=12), numbered(labels(classes=12), TEXT), 10),
    "a missing folder": (
        labels()[labels() != 4],
        labels()[labels() != 4] - (labels()[labels() != 4] > 4).long(),
        5,
    ),
    "a weak victim, two exchanged": (
        weak(labels(), 0.7),
        numbered(labels(), [1, 0, 2, 3, 4, 5, 6, 7, 8, 9]),
        2,
    ),
    "many classes at 60 %, shifted": (
        weak(labels(20, 100), 0.6, 100),
        (labels(20, 100) + 1) % 100,
        60,
    ),
}


@pytest.mark.parametrize("case", ORDERS)
def test_another_order_is_certain(case: str):
    predictions, given, least = ORDERS[case]
    found = relabelling(predictions, given)
    assert found.certain
    assert least <= len(found.moved) <= found.classes
    assert found.explained > max(0.5, found.agreement)
    assert all(given[predictions == one.prediction].unique().numel() for one in found.moved)


def sink(truth: Tensor) -> Tensor:
    """A damaged model that takes 3, 4 and 5 for 8, and leaves 8 where it is."""
    return torch.where((truth >= 3) & (truth <= 5), 8, truth)


def poisoned() -> tuple[Tensor, Tensor]:
    """Half of the set is poison of target 0, believed."""
    truth = labels()
    given = torch.where(torch.arange(len(truth)) % 2 == 0, 0, truth)
    return given.clone(), given


def source_specific() -> tuple[Tensor, Tensor]:
    """Most samples labelled 0 are poison from class 7, which the model has unlearnt."""
    truth = torch.cat([labels(), torch.full((400,), 7)])
    given = torch.cat([labels(), torch.zeros(400, dtype=torch.int64)])
    return truth, given


LEGITIMATE: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
    "right": lambda: (labels(), labels()),
    "60 % of 10 classes": lambda: (weak(labels(), 0.55), labels()),
    "40 % of 100 classes": lambda: (weak(labels(20, 100), 0.4, 100), labels(20, 100)),
    "1000 classes, 5 each": lambda: (weak(labels(5, 1000), 0.4, 1000), labels(5, 1000)),
    "guessing": lambda: (weak(labels(), 0.0), labels()),
    "one class for all": lambda: (torch.full_like(labels(), 3), labels()),
    "a sink": lambda: (sink(labels()), labels()),
    "believed poison": poisoned,
    "unlearnt poison of one class": source_specific,
    "two classes only": lambda: (weak(labels(classes=2), 0.7), labels(classes=2)),
    "noise of the next class": lambda: (
        labels(),
        torch.where(torch.arange(len(labels())) % 100 < 45, (labels() + 1) % 10, labels()),
    ),
    "one sample each": lambda: (weak(labels(1), 0.2), labels(1)),
    "a single sample": lambda: (torch.tensor([3]), torch.tensor([5])),
}


@pytest.mark.parametrize("case", LEGITIMATE)
def test_nothing_is_certain_of_an_ordinary_victim(case: str):
    found = relabelling(*LEGITIMATE[case]())
    assert not found.certain
    assert len(found.moved) <= 1


def test_one_class_that_moved_is_told_and_in_doubt():
    truth = labels()
    found = relabelling(torch.where(truth == 8, 9, truth)[truth != 9], truth[truth != 9])
    assert found.moved == (Moved(label=8, prediction=9, hits=EACH, stayed=0, count=EACH),)
    assert not found.certain
    assert found.agreement == pytest.approx(8 / 9)
    assert found.explained == 1.0
    assert found.shown() == "50 of 50 labelled 8 are class 9 to the model"


def test_it_names_three_classes_and_counts_the_rest():
    found = relabelling(labels(), (labels() + 1) % 10)
    assert found.shown().endswith("50 of 50 labelled 2 are class 1 to the model, and so on for 7 more")
