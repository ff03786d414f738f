"""Goel's grid against a slow loop with plain dampening."""

from __future__ import annotations

import copy

import pytest
from pydantic import ValidationError

from theriac.search.dampening_problem import DampeningProblem
from theriac.search.grid.pairs import GoelGrid, GridOutcome, GridRow, best, score
from theriac.search.grid.scorer import run_grid
from theriac.tests.poisoned import accuracy_of, poisoned_digits
from theriac.unlearning.dampening.rule import dampen
from theriac.unlearning.importance.estimate import Importance, estimate_importance

POISONED = poisoned_digits()
HELD_OUT = POISONED.clean[0][:150], POISONED.clean[1][:150]


@pytest.fixture(scope="module")
def importances() -> tuple[Importance, Importance]:
    forget, retain = (
        estimate_importance(POISONED.model, [data], kind="fim", granularity="batch")
        for data in (POISONED.found, POISONED.rest)
    )
    return forget, retain


def test_the_papers_grid():
    pairs = GoelGrid().pairs()
    assert len(set(pairs)) == len(pairs) == 50
    assert pairs[0] == (1e6, 1e7)
    assert pairs[4] == (1e6, 1e5)
    assert pairs[-1] == pytest.approx((0.1, 0.01))
    assert all(
        constant / alpha == pytest.approx([10, 5, 1, 0.5, 0.1][i % 5])
        for i, (alpha, constant) in enumerate(pairs)
    )


def slow_row(pair: tuple[float, float], importances: tuple[Importance, Importance]) -> GridRow:
    model = copy.deepcopy(POISONED.model)
    model.load_state_dict(dampen(dict(POISONED.model.named_parameters()), *importances, *pair))
    forget, retain = (importance.mean() for importance in importances)
    after = accuracy_of(model, POISONED.found), accuracy_of(model, HELD_OUT)
    drop = accuracy_of(POISONED.model, POISONED.found) - after[0]
    return GridRow(
        alpha=pair[0],
        dampening_constant=pair[1],
        dampened=sum(int((forget[n] > pair[0] * retain[n]).sum()) for n in forget),
        forget_accuracy=after[0],
        held_out_accuracy=after[1],
        score=drop + (after[1] - accuracy_of(POISONED.model, HELD_OUT)),
    )


def test_the_grid_is_the_slow_loop(importances):
    problem = DampeningProblem(POISONED.model, [POISONED.found], *importances, dampening_constant=0.3)
    problem.dampened(0.2)
    seen: list[int] = []
    outcome = run_grid(GoelGrid(), problem, [HELD_OUT], seen.append)
    slow = [slow_row(pair, importances) for pair in GoelGrid().pairs()]
    assert list(outcome.rows) == slow
    assert seen == list(range(1, 51))
    assert outcome.forget_accuracy_before == accuracy_of(POISONED.model, POISONED.found)
    assert outcome.held_out_accuracy_before == accuracy_of(POISONED.model, HELD_OUT)
    assert outcome.winner.score == pytest.approx(max(row.score for row in slow), abs=1e-9)
    assert 0 < outcome.winner.score < 1
    assert len({row.forget_accuracy for row in slow}) > 3


def row(alpha: float, constant: float, value: float) -> GridRow:
    return GridRow(
        alpha=alpha,
        dampening_constant=constant,
        dampened=0,
        forget_accuracy=0.0,
        held_out_accuracy=0.0,
        score=value,
    )


def test_the_score_weighs_forgetting_and_keeping_equally():
    assert score(0.75, -0.25) == 0.5
    assert score(0.25, 0.125) == score(0.125, 0.25) == 0.375


def test_the_winner_has_the_highest_score_and_is_the_least_aggressive_of_its_equals():
    assert best([row(9.0, 9.0, 0.1), row(2.0, 1.0, 0.5), row(1.0, 9.0, 0.4)]) == row(2.0, 1.0, 0.5)
    tied = [row(1.0, 9.0, 0.5), row(5.0, 1.0, 0.5), row(5.0, 3.0, 0.5), row(5.0, 2.0, 0.5)]
    assert best(tied) == row(5.0, 3.0, 0.5)
    rounded = [row(5.0, 3.0, 0.1 + 0.2), row(7.0, 3.0, 0.3)]
    assert best(rounded) == rounded[1]
    with pytest.raises(ValueError, match="empty"):
        best([])


def test_held_out_data_are_read_once_before_and_once_for_each_pair_that_selects_something(
    importances: tuple[Importance, Importance],
):
    reads: list[int] = []

    class Counted:
        def __iter__(self):
            reads.append(1)
            return iter([HELD_OUT])

    problem = DampeningProblem(POISONED.model, [POISONED.found], *importances)
    outcome = run_grid(GoelGrid(alphas=(1e30, 1e20, 10.0)), problem, Counted())
    selecting = [row for row in outcome.rows if row.dampened]
    assert 0 < len(selecting) < len(outcome.rows)
    assert len(reads) == 1 + len(selecting)


def test_a_grid_improves_only_if_some_pair_beats_leaving_the_victim_as_it_is():
    def outcome(*scores: float) -> GridOutcome:
        rows = tuple(row(float(i + 1), 1.0, value) for i, value in enumerate(scores))
        return GridOutcome(rows=rows, forget_accuracy_before=1.0, held_out_accuracy_before=1.0)

    assert outcome(-0.5, 0.01).improves
    assert not outcome(-0.5, 0.0).improves
    assert not outcome(-0.5, 0.3 - 0.1 - 0.2 + 1e-16).improves


@pytest.mark.parametrize(
    "wrong",
    [
        {"alphas": ()},
        {"alphas": (1.0, 0.0)},
        {"alphas": (1.0, float("inf"))},
        {"alphas": (1.0, 1.0)},
        {"relative_lambdas": (-1.0,)},
        {"relative_lambdas": (float("nan"),)},
        {"lambdas": (1.0,)},
    ],
)
def test_settings_validate_themselves(wrong: dict[str, tuple[float, ...]]):
    with pytest.raises(ValidationError):
        GoelGrid(**wrong)
