"""What counts as a wreck, by contaminated data alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from theriac.search.harm import COUNTED, compare_on_retain, expected_rate

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


@pytest.mark.parametrize(("left", "lost"), [(0, True), (9, True), (10, False), (40, False)])
def test_a_target_class_that_is_gone_is_a_wreck(left: int, lost: bool) -> None:
    before = torch.cat([LABELS, torch.zeros(100, dtype=torch.int64)])
    after = before.clone()
    after[len(LABELS) + left :] = 1 + torch.arange(100 - left) % 9
    harm = compare_on_retain(before, after, before, TARGETS)
    assert harm.target_kept == left / 100
    assert harm.agreement == 1.0
    assert wrecked(before, after, before) == lost


def test_a_target_that_the_victim_hardly_predicts_says_nothing() -> None:
    before = torch.cat([LABELS, torch.zeros(COUNTED - 1, dtype=torch.int64)])
    after = torch.where(before == 0, 1, before)
    assert compare_on_retain(before, after, before, TARGETS).target_kept == 1.0


def test_the_target_that_lost_most_counts() -> None:
    after = torch.where((LABELS == 3) & (torch.arange(len(LABELS)) % 2 == 0), 4, LABELS)
    assert compare_on_retain(LABELS, after, LABELS, torch.tensor([2, 3])).target_kept == 0.5


def test_the_rate_to_expect_is_that_of_each_label_of_the_found_images() -> None:
    assert expected_rate(LABELS, torch.arange(1, 10)) == pytest.approx(1 / 9)
    predictions = torch.tensor([0, 0, 0, 1])
    assert expected_rate(predictions, torch.tensor([0, 0, 0, 1])) == pytest.approx(0.75**2 + 0.25**2)
    assert expected_rate(predictions, torch.tensor([2])) == 0.0
