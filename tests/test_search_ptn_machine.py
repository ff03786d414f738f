"""The PTN state machine against the loop of the paper, and where it ends."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from theriac.errors import BadInput
from theriac.search.ptn.machine import PTNSearch, PTNState, percentile_of
from theriac.search.threshold import NothingToUnlearn, automatic_rho, check_unlearnable, crosses


def follow(search: PTNSearch, state: PTNState, accuracy_at):
    """Drive a search over a function of s; returns the final state."""
    while state.status == "searching":
        state = search.update(state, accuracy_at(state.s))
    return state


def start(search: PTNSearch, accuracy: float = 1.0) -> PTNState:
    return search.start(forget_count=100, train_count=50_000, victim_forget_accuracy=accuracy)


def test_it_starts_below_the_share_that_was_found():
    state = start(PTNSearch(), accuracy=0.95)
    assert state.s == 100 / 50_000 / 25
    assert state.threshold == pytest.approx(0.19)
    assert state.status == "searching"
    assert state.chosen is None


@given(st.floats(1e-9, 1e6))
def test_percentile_follows_equation_7(s: float):
    assert percentile_of(s) == pytest.approx(100 - math.log(1 + 100 * s), abs=1e-9)


def test_percentile_stays_in_range():
    assert percentile_of(0) == 100
    assert percentile_of(1e60) == 0


@given(st.floats(1e-4, 1e4), st.sampled_from([1.01, 1.1, 2.0]), st.floats(0, 0.9))
def test_the_stop_is_the_first_crossing_of_the_plain_loop(edge: float, s_step: float, rho: float):
    def accuracy(s: float) -> float:
        return 1.0 if s < edge else 0.0

    search = PTNSearch(s_step=s_step, rho=rho, max_steps=5000)
    final = follow(search, start(search), accuracy)
    s = 100 / 50_000 / 25
    while accuracy(s) > rho:
        s *= s_step
    assert final.status == "stopped"
    assert final.s == s
    assert final.chosen is not None
    assert final.chosen.s == s
    assert [step.crossed for step in final.trace] == [False] * (len(final.trace) - 1) + [True]


def test_an_accuracy_equal_to_the_threshold_stops():
    search = PTNSearch(rho=0.2)
    state = search.update(start(search, accuracy=0.35), 0.35)
    assert search.update(state, 7 / 100).status == "stopped"
    assert search.update(state, 8 / 100).status == "searching"


def test_the_threshold_is_a_share_of_the_victims_accuracy():
    search = PTNSearch(rho=0.5)
    state = search.update(start(search, accuracy=0.6), 0.6)
    assert search.update(state, 0.31).status == "searching"
    assert search.update(state, 0.30).status == "stopped"


def test_a_start_that_crosses_walks_back_to_the_least_aggressive_crossing():
    search = PTNSearch()
    first = start(search)
    edge = first.s / 1.1**7.5
    final = follow(search, first, lambda s: 1.0 if s < edge else 0.0)
    assert final.walked_back
    assert final.status == "stopped"
    assert final.s == pytest.approx(first.s / 1.1**7)
    assert len(final.trace) == 9
    assert final.trace[-1].crossed is False


def test_walking_back_ends_where_nothing_gentler_exists():
    search = PTNSearch(s_step=10.0)
    final = follow(search, start(search), lambda s: 0.0)
    assert final.status == "stopped"
    assert final.walked_back
    assert final.trace[-1].percentile == 100.0
    assert final.s == final.trace[-1].s


def test_walking_back_respects_the_limit():
    search = PTNSearch(max_steps=4)
    final = follow(search, start(search), lambda s: 0.0)
    assert (final.status, len(final.trace)) == ("stopped", 4)
    assert final.s == final.trace[-1].s


def test_without_a_crossing_there_is_no_stop():
    search = PTNSearch(max_steps=7)
    final = follow(search, start(search), lambda s: 1.0)
    assert (final.status, len(final.trace)) == ("no_stop", 7)
    assert final.chosen is None


def test_a_search_that_has_dampened_everything_gives_up():
    search = PTNSearch(s_step=1e6, max_steps=500)
    final = follow(search, start(search), lambda s: 1.0)
    assert final.status == "no_stop"
    assert final.trace[-1].percentile == 0.0


def test_updates_leave_the_old_state_alone():
    search = PTNSearch()
    state = start(search)
    search.update(state, 1.0)
    assert state == start(search)


def test_a_finished_search_takes_no_update():
    search = PTNSearch()
    over = search.update(start(search), 0.0)
    over = follow(search, over, lambda s: 1.0)
    with pytest.raises(ValueError, match="is over"):
        search.update(over, 0.0)


@pytest.mark.parametrize("accuracy", [-0.1, 1.1, float("nan")])
def test_an_accuracy_is_a_share(accuracy: float):
    search = PTNSearch()
    with pytest.raises(ValueError, match="not a share"):
        search.update(start(search), accuracy)


@pytest.mark.parametrize(("forget", "train"), [(0, 10), (10, 10), (11, 10)])
def test_forget_is_a_true_part_of_training(forget: int, train: int):
    with pytest.raises(BadInput, match="forget set must hold at least one"):
        PTNSearch().start(forget_count=forget, train_count=train, victim_forget_accuracy=1.0)


def test_poison_the_victim_does_not_believe_cannot_be_unlearned():
    with pytest.raises(NothingToUnlearn, match="labels the poison was trained with"):
        check_unlearnable(0.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rho": 1.0},
        {"rho": -0.1},
        {"b_start": 0},
        {"s_step": 1.0},
        {"max_steps": 0},
        {"alpha": 3},
        {"strategy": "fine"},
    ],
)
def test_settings_validate_themselves(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        PTNSearch(**wrong)


EXPONENTS = st.floats(-40, 16)


@given(
    edge=st.one_of(EXPONENTS.map(lambda e: 10.0**e), st.just(0.0), st.just(math.inf)),
    s_step=st.sampled_from([1.01, 1.1, 2.0, 1e5]),
    max_steps=st.one_of(st.integers(1, 40), st.sampled_from([500, 3000])),
    b_start=st.sampled_from([25.0, 1e-3, 1e10]),
)
def test_coarse_then_fine_gives_the_plain_answer_if_the_accuracy_only_falls(
    edge: float, s_step: float, max_steps: int, b_start: float
):
    plain = PTNSearch(s_step=s_step, max_steps=max_steps, b_start=b_start)
    search = plain.model_copy(update={"strategy": "coarse_fine"})
    slow, fast = (follow(one, start(one), lambda s: 1.0 if s < edge else 0.0) for one in (plain, search))
    assert (fast.status, fast.walked_back, fast.chosen) == (slow.status, slow.walked_back, slow.chosen)
    if slow.status == "stopped":
        assert fast.s == slow.s
    assert {step.s for step in fast.trace} <= plain_settings(plain)
    assert len(fast.trace) == len({step.s for step in fast.trace})
    assert len(fast.trace) <= min(len(slow.trace) / 8 + 9, max_steps)


def plain_settings(search: PTNSearch) -> set[float]:
    """All that a plain search can reach, up and down."""
    up = down = start(search).s
    settings = {up}
    for _ in range(search.max_steps - 1):
        up, down = up * search.s_step, down / search.s_step
        settings |= {up, down}
    return settings


def test_coarse_then_fine_step_by_step():
    search = PTNSearch(strategy="coarse_fine", s_step=2.0)
    first = start(search).s
    final = follow(search, start(search), lambda s: 1.0 if s < first * 2**19.5 else 0.0)
    exponents = [math.log2(step.s / first) for step in final.trace]
    assert exponents == [0, 8, 16, 24, 17, 18, 19, 20]
    assert final.s == first * 2**20
    walked = follow(search, start(search), lambda s: 1.0 if s < first * 2**-10.5 else 0.0)
    exponents = [math.log2(step.s / first) for step in walked.trace]
    assert exponents == [0, -8, -16, -9, -10, -11]
    assert (walked.walked_back, walked.s) == (True, first * 2**-10)


@given(st.lists(st.booleans(), min_size=60, max_size=60))
def test_coarse_then_fine_crosses_even_if_the_accuracy_jumps(crossings: list[bool]):
    search = PTNSearch(strategy="coarse_fine", s_step=2.0, max_steps=60)
    first = start(search).s

    def accuracy(s: float) -> float:
        return 0.0 if crossings[abs(round(math.log2(s / first)))] else 1.0

    slow = follow(search.model_copy(update={"strategy": "plain"}), start(search), accuracy)
    fast = follow(search, start(search), accuracy)
    assert len(fast.trace) <= 60
    if fast.chosen is None:
        assert not any(step.crossed for step in fast.trace)
    else:
        assert slow.chosen is not None
        assert fast.s == fast.chosen.s
        assert fast.s <= slow.s if fast.walked_back else fast.s >= slow.s


STRATEGIES = st.sampled_from(["plain", "coarse_fine"])


@given(
    strategy=STRATEGIES,
    accuracies=st.lists(st.sampled_from([0.0, 0.2, 0.21, 1.0]), max_size=30),
    max_steps=st.integers(1, 60),
    cut=st.integers(0, 30),
)
def test_replaying_in_parts_is_replaying_at_once(strategy, accuracies, max_steps, cut):
    search = PTNSearch(strategy=strategy, s_step=3.0, max_steps=max_steps)
    whole = search.replay(start(search), accuracies)
    part = search.replay(start(search), accuracies[:cut])
    assert search.replay(part, accuracies[cut:]) == whole
    state = start(search)
    for accuracy in accuracies[: len(whole.trace)]:
        state = search.update(state, accuracy)
    assert state == whole
    assert whole.status != "searching" or len(whole.trace) == len(accuracies)


def test_a_replay_ignores_what_comes_after_the_end():
    search = PTNSearch()
    over = search.replay(start(search), [1.0, 0.1])
    assert over.status == "stopped"
    assert search.replay(start(search), [1.0, 0.1, 1.0, math.nan]) == over
    assert search.replay(over, [1.0]) == over


@given(
    strategy=STRATEGIES,
    before=st.lists(st.booleans(), max_size=12),
    count=st.integers(0, 40),
    max_steps=st.integers(1, 200),
)
def test_ahead_is_where_a_search_comes_that_does_not_turn(strategy, before, count, max_steps):
    search = PTNSearch(strategy=strategy, s_step=3.0, max_steps=max_steps)
    state = search.replay(start(search), (0.1 if crossed else 0.9 for crossed in before))
    guess, truth = search.ahead(state, count), state
    while truth.status == "searching" and len(truth.trace) - len(state.trace) < count:
        truth = search.update(truth, 0.15 if truth.walked_back else 0.85)
    place = (truth.status, truth.s, truth.offset, truth.fine_until, truth.walked_back, truth.percentile)
    assert place == (
        guess.status,
        guess.s,
        guess.offset,
        guess.fine_until,
        guess.walked_back,
        guess.percentile,
    )
    assert len(guess.trace) == len(truth.trace)
    assert guess.trace[: len(state.trace)] == state.trace


def test_ahead_of_a_search_that_is_over_is_nothing():
    search = PTNSearch()
    over = search.replay(start(search), [1.0, 0.0])
    assert search.ahead(over, 5) is over
    assert search.ahead(start(search), 0) == start(search)


@given(st.integers(1, 1000), st.integers(0, 1000), st.floats(0, 1))
def test_crossing_is_reaching_the_threshold(count: int, hits: int, rho: float):
    hits = min(hits, count)
    assert crosses(hits / count, hits / count)
    assert crosses(hits / count, rho) == (hits / count <= rho + 1e-12)


def test_automatic_rho_grows_with_the_target_rate_and_shrinks_with_the_evidence():
    assert automatic_rho(0.1, 100) == pytest.approx(0.16)
    assert automatic_rho(0.5, 100) == pytest.approx(0.6)
    assert automatic_rho(0.1, 10) > automatic_rho(0.1, 1000) > 0.1
    assert automatic_rho(0.0, 5) == 0.0
    assert automatic_rho(0.99, 1) == 0.95
