"""Sampled pairs: reproducible, carried on anywhere, judged as a grid judges."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from theriac.search.dampening_problem import DampeningProblem
from theriac.search.grid.driver import TPESearching
from theriac.search.grid.pairs import best
from theriac.search.grid.sampled import TPESearch
from theriac.search.grid.scorer import PairScorer
from theriac.search.grid.start import TPEStart
from theriac.tests.poisoned import poisoned_digits
from theriac.unlearning.importance.estimate import estimate_importance

POISONED = poisoned_digits()
HELD_OUT = POISONED.clean[0][:150], POISONED.clean[1][:150]
SEARCH = TPESearch(samples=14, alpha_range=(0.5, 1e3))


@pytest.fixture(scope="module")
def searching() -> TPESearching:
    pair = [
        estimate_importance(POISONED.model, [data], kind="fim", granularity="batch")
        for data in (POISONED.found, POISONED.rest)
    ]
    problem = DampeningProblem(POISONED.model, [POISONED.found], *pair)
    return TPESearching(SEARCH, PairScorer(problem, [HELD_OUT]), len(HELD_OUT[1]))


def drawn(search: TPESearch, scores: list[float]) -> list[tuple[float, float]]:
    sampler, pairs = search.sampler([]), []
    for score in scores:
        pairs.append(sampler.ask())
        sampler.tell(score)
    return pairs


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=15), st.data())
def test_a_sampler_is_a_function_of_the_scores_before(scores: list[float], data: st.DataObject):
    cut = data.draw(st.integers(0, len(scores) - 1))
    pairs = drawn(SEARCH, scores)
    history = [{"score": score} for score in scores[:cut]]
    assert SEARCH.sampler(history).ask() == pairs[cut]
    for alpha, constant in pairs:
        assert 0.5 <= alpha <= 1e3
        assert 0.1 * (1 - 1e-9) <= constant / alpha <= 10 * (1 + 1e-9)


def test_it_learns_from_scores_and_seeds_differ():
    target = 3.0
    search, sampler = TPESearch(samples=80), TPESearch(samples=80).sampler([])
    distances = []
    for _ in range(search.samples):
        alpha, _ = sampler.ask()
        distances.append(abs(math.log10(alpha) - target))
        sampler.tell(-distances[-1])
    assert sum(distances[-20:]) < 0.5 * sum(distances[:20])
    assert drawn(search, [0.0]) != drawn(TPESearch(samples=80, seed=1), [0.0])


def test_instalments_give_the_same_rows(searching: TPESearching):
    whole = searching.carry_on([])
    assert len(whole) == SEARCH.samples
    rows: list = []
    while len(rows) < SEARCH.samples:
        rows = json.loads(json.dumps([*rows, *searching.carry_on(rows, 0, 5)]))
    assert rows == whole
    assert searching.carry_on(whole) == []
    assert searching.start == TPEStart(count=14)
    assert searching.start.place(whole[:3]) == 3
    assert searching.start.place(whole) is None


def test_the_best_pair_wins_as_in_a_grid(searching: TPESearching):
    rows = searching.carry_on([])
    finding = searching.finding(rows)
    assert finding.outcome.winner == best(finding.outcome.rows)
    assert finding.outcome.winner.score == max(row["score"] for row in rows)
    assert finding.columns()["steps"] == 14


def test_nothing_can_be_skipped(searching: TPESearching):
    assert searching.start.place([], 1) is None
    with pytest.raises(ValueError, match="depends on all before"):
        searching.carry_on([], skip=1)
    with pytest.raises(ValueError, match="ask for a setting first"):
        SEARCH.sampler([]).tell(0.0)


@pytest.mark.parametrize("value", [(0, 1), (2, 1), (1, 1), (1, math.inf), (math.nan, 1)])
def test_wrong_ranges_are_refused(value: tuple[float, float]):
    with pytest.raises(ValidationError, match="least and the greatest"):
        TPESearch(alpha_range=value)
    with pytest.raises(ValidationError, match="least and the greatest"):
        TPESearch(relative_lambda_range=value)
