"""The dampening problem, the search driver, and the comparison on retain."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

from theriac.errors import BadInput
from theriac.search.dampening_problem import DampeningProblem
from theriac.search.harm import compare_on_retain, target_rate
from theriac.search.ptn.driver import run_ptn
from theriac.search.ptn.machine import PTNSearch
from theriac.tests.poisoned import accuracy_of, poisoned_digits
from theriac.unlearning.dampening.rule import alpha_at, dampen
from theriac.unlearning.importance.estimate import Importance, estimate_importance

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


@pytest.mark.parametrize("constant", [None, 0.5])
def test_a_walk_over_alphas_gives_the_weights_of_plain_dampening(importances, constant):
    one = problem(importances, dampening_constant=0.9)
    victim = dict(POISONED.model.named_parameters())
    for alpha in (100.0, 3.0, 20.0, 0.3, 50.0):
        expected = dampen(victim, importances[0], importances[1], alpha, constant or 0.9)
        found = dict(one.dampened(alpha, constant).named_parameters())
        assert all(torch.equal(found[name], expected[name]) for name in victim)
    assert all(torch.equal(p, victim[n]) for n, p in one.undampened().named_parameters())


def test_memory_held_is_a_working_copy_two_importances_and_what_is_sorted(importances):
    one = problem(importances)
    count = sum(p.numel() for p in POISONED.model.parameters())
    assert one.parameter_count == count
    assert 12 * count < one.held_bytes <= 12 * count + 20 * count


@pytest.mark.parametrize("piece", [None, 7])
def test_what_is_remembered_changes_no_accuracy(importances, piece):
    with_memory, without = (problem(importances, piece=piece, memory=memory) for memory in (None, 0))
    for percentile, constant in [
        (99.9, 1.0),
        (99.8, 1.0),
        (99.8, 1.0),
        (98.0, 1.0),
        (98.0, 0.5),
        (99.9, 0.5),
    ]:
        alpha = with_memory.alpha_at(percentile)
        for threshold in (None, 0.3):
            evaluations = [
                one.evaluate_at(alpha, constant, threshold=threshold) for one in (with_memory, without)
            ]
            assert evaluations[0] == evaluations[1]
        assert with_memory.victim_forget_accuracy() == 1.0
        plain = with_memory.dampened(alpha, constant)
        assert not any("forward" in vars(module) for module in plain.modules())


def test_a_step_runs_only_what_it_changed(importances, monkeypatch):
    one = problem(importances)
    ran: list[int] = []
    forward = torch.nn.Linear.forward

    def counted(self, x):
        ran.append(len(self.weight))
        return forward(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", counted)
    one.victim_forget_accuracy()
    ran.clear()
    alphas = [one.alpha_at(100 - 100 * count / one.parameter_count) for count in range(1, 60)]
    for alpha in alphas:
        before = {n: p.clone() for n, p in one.dampened(alpha).named_parameters()}
        one.evaluate_at(alpha)
        ran.clear()
        one.evaluate_at(alpha)
        assert ran == []
        after = dict(one.dampened(alphas[0]).named_parameters())
        changed = {name[0] for name in after if not torch.equal(before[name], after[name])}
        first, last = "1" in changed, "3" in changed
        one.evaluate_at(alphas[0])
        assert ran == [64] * first + [10] * (first or last)


def test_what_dampens_nothing_more_is_not_measured_again(importances, monkeypatch):
    measured = []
    original = DampeningProblem._forget_accuracy

    def counted(self, threshold):
        measured.append(threshold)
        return original(self, threshold)

    monkeypatch.setattr(DampeningProblem, "_forget_accuracy", counted)
    one, alphas = problem(importances), (2.0, 1.0, 0.9, 0.5, 0.9, 0.0, 2.0)
    found = [one.evaluate_at(alpha) for alpha in alphas]
    assert len(measured) == 4  # alpha 2, 1, 0.9 and 2 again
    assert found == [problem(importances).evaluate_at(alpha) for alpha in alphas]
    assert found[3].dampened > found[2].dampened
    measured.clear()
    assert one.evaluate_at(0.5, 0.6) == problem(importances).evaluate_at(0.5, 0.6)
    assert one.evaluate_at(0.55, 0.6) == problem(importances).evaluate_at(0.55, 0.6)
    assert one.evaluate_at(0.65, 0.6) == problem(importances).evaluate_at(0.65, 0.6)
    assert len(measured) == 2 + 3


def test_what_a_measurement_holds_is_counted_bounded_and_released(importances):
    one = problem(importances)
    before = one.held_bytes
    one.victim_forget_accuracy()
    images = sum(t.nbytes for t in POISONED.found)
    outputs = 40 * 4 * (64 + 64 + 10)
    assert before + images < one.held_bytes <= before + images + outputs
    one.release()
    assert one.held_bytes == before + images
    small = problem(importances, memory=images)
    small.victim_forget_accuracy()
    assert small.held_bytes == before + images
    run_ptn(
        PTNSearch(),
        PTNSearch().start(forget_count=40, train_count=1437, victim_forget_accuracy=1.0),
        one,
    )
    assert one.held_bytes == before + images
    with pytest.raises(BadInput, match="memory -1"):
        problem(importances, memory=-1)


def test_an_empty_forget_set_is_refused(importances):
    with pytest.raises(BadInput, match="the forget set holds no samples"):
        DampeningProblem(POISONED.model, [], *importances).evaluate(99.0)


def batched(size: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(*(part.split(size) for part in POISONED.found), strict=True))


@pytest.mark.parametrize("strategy", ["plain", "coarse_fine"])
@given(
    size=st.integers(1, 40),
    rho=st.sampled_from([0.0, 0.2, 0.5, 0.9]),
    s_step=st.sampled_from([1.1, 2.0]),
    b_start=st.sampled_from([25.0, 0.01, 1e-6]),
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_early_exit_changes_no_decision(importances, strategy, size, rho, s_step, b_start):
    search = PTNSearch(rho=rho, s_step=s_step, b_start=b_start, strategy=strategy)
    state = search.start(forget_count=40, train_count=1437, victim_forget_accuracy=1.0)
    one = DampeningProblem(POISONED.model, batched(size), *importances)
    full = run_ptn(search, state, one, early_exit=False)
    early = run_ptn(search, state, one)
    assert (early.state.status, early.state.s) == (full.state.status, full.state.s)
    assert early.chosen == full.chosen
    assert all(evaluation.exact for evaluation in full.evaluations)
    for fast, slow in zip(early.evaluations, full.evaluations, strict=True):
        assert (fast.alpha, fast.dampened) == (slow.alpha, slow.dampened)
        low, value = sorted((fast.forget_accuracy, slow.forget_accuracy))
        assert (low > state.threshold) or (value <= state.threshold)
        assert not fast.exact or fast.forget_accuracy == slow.forget_accuracy
        assert fast.exact or size < 40
    for row, exact in zip(early.rows(), full.rows(), strict=True):
        assert row["crossed"] == exact["crossed"]
        assert row["forget_accuracy"] in (None, exact["forget_accuracy"])


class Counting:
    """Batches of S_f that note how many are read."""

    def __init__(self, size: int) -> None:
        self.batches, self.read = batched(size), 0

    def __iter__(self):
        for batch in self.batches:
            self.read += 1
            yield batch


def test_early_exit_reads_no_more_batches_than_it_needs(importances):
    found = Counting(4)
    one = DampeningProblem(POISONED.model, found, *importances, memory=0)
    assert one.evaluate(100.0).exact
    assert found.read == 10
    believed = one.evaluate(100.0, threshold=0.2)
    assert found.read == 10 + 3
    assert (believed.exact, believed.forget_accuracy) == (False, 0.3)
    forgotten = one.evaluate(0.0, threshold=0.2)
    assert found.read == 13 + 8
    assert (forgotten.exact, forgotten.forget_accuracy) == (False, 0.2)
    assert one.evaluate(100.0).exact


def test_equal_weights_are_measured_once(importances):
    found = Counting(40)
    one = DampeningProblem(POISONED.model, found, *importances, memory=0)
    top = one.alpha_at(100.0)
    for alpha, constant in ((top * 2, 1.0), (top * 3, 5.0), (top / 4, top * 2), (top / 8, top * 2)):
        one.evaluate_at(alpha, constant)
    assert found.read == 1 + (one.selected(top / 4) > 0)
    changed = [one.evaluate_at(top / 4, constant) for constant in (top / 2, top / 3)]
    assert one.weights_at(top / 4, top / 2) != one.weights_at(top / 4, top / 3)
    assert all(evaluation.dampened == one.selected(top / 4) for evaluation in changed)


def test_pieces_of_one_batch_let_it_exit_early(importances):
    whole, pieces = (problem(importances, piece=piece) for piece in (None, 4))
    for one in (whole, pieces):
        one.evaluate(100.0)
    assert whole.evaluate(100.0, threshold=0.2).exact
    assert pieces.evaluate(100.0, threshold=0.2).forget_accuracy == 0.3
    with pytest.raises(BadInput, match="piece 0"):
        problem(importances, piece=0)


def test_a_forget_set_that_shrinks_is_noticed(importances):
    found = Counting(4)
    one = DampeningProblem(POISONED.model, found, *importances, memory=0)
    one.evaluate(100.0)
    del found.batches[2:]
    with pytest.raises(BadInput, match="held 40 samples at first and holds 8 now"):
        one.evaluate(100.0, threshold=0.9)


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
