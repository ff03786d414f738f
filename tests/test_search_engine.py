"""The dampening problem, the search driver, and the comparison on retain."""

from __future__ import annotations

import copy

import pytest
import torch

from theriac.errors import BadInput
from theriac.search.engine import DampeningProblem, run_ptn
from theriac.search.harm import compare_on_retain, target_rate
from theriac.search.ptn import PTNSearch
from theriac.tests.poisoned import accuracy_of, poisoned_digits
from theriac.unlearning.dampening import alpha_at, dampen
from theriac.unlearning.importance import Importance, estimate_importance

POISONED = poisoned_digits()
FOUND = [POISONED.found]
Pair = tuple[Importance, Importance]


@pytest.fixture(scope="module")
def importances() -> Pair:
    forget = estimate_importance(POISONED.model, FOUND, kind="xlf", granularity="sample")
    return forget, estimate_importance(POISONED.model, [POISONED.rest], kind="xlf", granularity="sample")


def problem(importances: Pair, **options) -> DampeningProblem:
    return DampeningProblem(POISONED.model, FOUND, *importances, **options)


@pytest.mark.parametrize("percentile", [99.9, 99.0, 90.0, 0.0])
@pytest.mark.parametrize("constant", [1.0, 0.5])
def test_an_evaluation_is_dampening_and_inference(importances: Pair, percentile: float, constant: float):
    evaluation = problem(importances, dampening_constant=constant).evaluate(percentile)
    alpha = alpha_at(*importances, percentile)
    weights = dict(POISONED.model.named_parameters())
    dampened = dampen(weights, *importances, alpha, constant)
    model = copy.deepcopy(POISONED.model)
    model.load_state_dict(dampened)
    forget, retain = (importance.mean() for importance in importances)
    assert evaluation.alpha == alpha
    assert evaluation.forget_accuracy == accuracy_of(model, POISONED.found)
    assert evaluation.dampened == sum(int((forget[n] > alpha * retain[n]).sum()) for n in weights)


def test_evaluations_do_not_build_on_each_other(importances):
    one = problem(importances)
    first = one.evaluate(99.0)
    one.evaluate(10.0)
    assert one.evaluate(99.0) == first


def test_the_victim_is_left_alone(importances):
    before = copy.deepcopy(POISONED.model.state_dict())
    problem(importances).evaluate(50.0)
    assert all(torch.equal(before[n], p) for n, p in POISONED.model.state_dict().items())
    assert all(p.requires_grad for p in POISONED.model.parameters())


def test_importances_of_different_sorts_are_refused(importances):
    other = estimate_importance(POISONED.model, [POISONED.rest], kind="lf", granularity="sample")
    with pytest.raises(BadInput, match="different sorts"):
        DampeningProblem(POISONED.model, FOUND, importances[0], other)


def test_the_driver_stops_where_the_state_machine_says(importances):
    search = PTNSearch()
    seen: list[int] = []
    state = search.start(forget_count=40, train_count=1437, victim_forget_accuracy=1.0)
    outcome = run_ptn(search, state, problem(importances), seen.append)
    assert seen == list(range(1, len(outcome.evaluations) + 1))
    assert outcome.chosen == outcome.evaluations[-1]
    assert outcome.chosen.forget_accuracy <= 0.2 < outcome.evaluations[-2].forget_accuracy
    rows = outcome.rows()
    assert [row["s"] for row in rows] == [step.s for step in outcome.state.trace]
    assert set(rows[0]) == {"s", "percentile", "alpha", "dampened", "forget_accuracy", "crossed"}


LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2])
TARGETS = torch.tensor([0])


def test_healing_hidden_poison_is_not_counted_as_harm():
    before = torch.tensor([0, 0, 1, 1, 2, 2, 2, 1])
    after = torch.tensor([1, 2, 1, 1, 2, 2, 2, 1])
    harm = compare_on_retain(before, after, LABELS, TARGETS)
    assert (harm.retain_accuracy_before, harm.retain_accuracy) == (7 / 8, 5 / 8)
    assert harm.other_accuracy_before == harm.other_accuracy == 5 / 6
    assert harm.agreement == 1.0
    assert (harm.target_rate_before, harm.target_rate) == (2 / 8, 0.0)
    assert not harm.collapsed(drop=0.1, share=0.25)


def test_a_fall_on_other_classes_is_a_collapse():
    before = LABELS
    after = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0])
    harm = compare_on_retain(before, after, LABELS, TARGETS)
    assert harm.other_accuracy == harm.agreement == 5 / 6
    assert harm.collapsed(drop=0.1, share=0.9)
    assert not harm.collapsed(drop=0.2, share=0.9)


def test_predictions_that_gather_on_one_class_are_a_collapse():
    harm = compare_on_retain(LABELS, torch.full_like(LABELS, 1), LABELS, TARGETS)
    assert harm.largest_gain == 6 / 8
    assert harm.collapsed(drop=1.0, share=0.25)


def test_if_every_class_is_a_target_all_of_retain_counts():
    harm = compare_on_retain(LABELS, LABELS, LABELS, torch.tensor([0, 1, 2]))
    assert harm.other_accuracy == harm.retain_accuracy == 1.0


def test_target_rate():
    assert target_rate(torch.tensor([0, 1, 1, 2]), torch.tensor([1, 2])) == 0.75
