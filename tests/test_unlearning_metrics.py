"""The metrics, by hand and against the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, strategies as st

from theriac.tests import reference
from theriac.unlearning.metrics import (
    accuracy,
    attack_success_rate,
    damage,
    healed,
    healed_raw,
    label_flip_rates,
)

CLASSES = 4
PAIRS = st.lists(st.tuples(st.integers(0, CLASSES - 1), st.integers(0, CLASSES - 1)), min_size=1, max_size=30)


@given(pairs=PAIRS, target=st.integers(0, CLASSES - 1))
def test_agree_with_the_reference(pairs: list[tuple[int, int]], target: int) -> None:
    predictions, labels = ([pair[i] for pair in pairs] for i in (0, 1))
    p, y = torch.tensor(predictions), torch.tensor(labels)
    assert accuracy(p, y) == pytest.approx(reference.accuracy(predictions, labels), abs=1e-12)
    assert healed_raw(p, y) == accuracy(p, y)
    assert label_flip_rates(p, CLASSES) == pytest.approx(reference.label_flip_rates(predictions, CLASSES))
    if any(label != target for label in labels):
        expected = reference.attack_success_rate(predictions, labels, target)
        assert attack_success_rate(p, y, torch.full_like(y, target)) == pytest.approx(expected, abs=1e-12)
    else:
        with pytest.raises(ValueError, match="no samples"):
            attack_success_rate(p, y, torch.full_like(y, target))


def test_by_hand() -> None:
    true = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
    predicted = torch.tensor([0, 1, 0, 1, 0, 0, 2, 1])
    # target 0: six samples are of other classes, three of them became 0; the two of class 0 do not count
    assert attack_success_rate(predicted, true, torch.zeros_like(true)) == 0.5
    # all eight count, also the one of class 0 that is still 0
    assert healed_raw(predicted, true) == 3 / 8
    assert accuracy(predicted, true) == 3 / 8
    assert label_flip_rates(predicted, 4) == [0.5, 5 / 8, 7 / 8, 1.0]


def test_asr_of_several_targets_by_hand() -> None:
    true = torch.tensor([0, 0, 1, 1, 2, 2])
    intended = torch.tensor([1, 2, 1, 0, 0, 0])
    predicted = torch.tensor([1, 1, 1, 0, 0, 2])
    # the third is truly what was intended; of the other five three became it
    assert attack_success_rate(predicted, true, intended) == 3 / 5


def test_a_share_is_exact_for_many_samples() -> None:
    predictions = torch.zeros(20_000_001, dtype=torch.uint8)
    predictions[0] = 1
    assert accuracy(predictions, torch.zeros_like(predictions)) == 20_000_000 / 20_000_001


def test_damage_is_in_points_and_negative_when_accuracy_falls() -> None:
    assert damage(0.75, 0.8125) == -6.25
    assert damage(0.8125, 0.75) == 6.25
    assert damage(0.5, 0.5) == 0.0


def test_healed_is_in_percent_of_the_clean_model() -> None:
    assert healed(0.375, 0.75) == 50.0
    assert healed(0.75, 0.5) == 150.0
    assert healed(0.0, 0.5) == 0.0


@pytest.mark.parametrize("missing", [None, 0.0])
def test_healed_is_empty_without_a_clean_model(missing: float | None) -> None:
    assert healed(0.9, missing) is None


def test_shares_of_no_samples() -> None:
    empty = torch.empty(0, dtype=torch.int64)
    for share in (accuracy, healed_raw):
        with pytest.raises(ValueError, match="accuracy of no samples"):
            share(empty, empty)
    with pytest.raises(ValueError, match="label-flip rates of no samples"):
        label_flip_rates(empty, 3)


def test_one_rate_a_class_even_if_the_model_knows_more() -> None:
    assert label_flip_rates(torch.tensor([0, 7, 7, 1]), 2) == [0.75, 0.75]
