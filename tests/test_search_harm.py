"""What counts as a wreck, by contaminated data alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from theriac.search.harm import compare_on_retain

TARGETS = torch.tensor([0])
LABELS = torch.arange(1, 10).repeat(100)
MISORDERED = torch.tensor([0, 2, 3, 4, 5, 6, 7, 8, 9, 1])[LABELS]


def wrecked(before: Tensor, after: Tensor, labels: Tensor = LABELS) -> bool:
    return compare_on_retain(before, after, labels, TARGETS).collapsed(drop=0.1, share=0.25)


def part(share: float, one: Tensor, other: Tensor) -> Tensor:
    """``one`` in this share of the samples, spread over all classes."""
    return torch.where(torch.arange(len(one)) // 9 % 100 < 100 * share, one, other)


def test_a_model_that_learns_labels_in_another_order_is_wrecked():
    harm = compare_on_retain(LABELS, MISORDERED, MISORDERED, TARGETS)
    assert harm.other_accuracy == 1.0 > harm.other_accuracy_before
    assert harm.largest_gain == 0.0
    assert wrecked(LABELS, MISORDERED, MISORDERED)


@pytest.mark.parametrize("before", [1.0, 0.8])
def test_a_model_that_left_the_victim_is_wrecked(before: float):
    shifted = LABELS % 9 + 1
    victim = part(before, LABELS, shifted)
    assert wrecked(victim, part(before / 2 - 0.05, victim, LABELS.flip(0)))


@pytest.mark.parametrize("known", [0.4, 0.6, 1.0])
def test_a_weak_victim_that_learns_more_is_not(known: float):
    victim = part(known, LABELS, LABELS % 9 + 1)
    assert not wrecked(victim, LABELS)


def test_the_bounds_on_accuracy_and_concentration_stay():
    assert not wrecked(LABELS, part(0.91, LABELS, LABELS % 9 + 1))
    assert wrecked(LABELS, part(0.88, LABELS, LABELS % 9 + 1))
    noise = LABELS.flip(0)
    assert wrecked(LABELS, torch.where(torch.arange(len(LABELS)) % 4 < 2, 5, LABELS), noise)
