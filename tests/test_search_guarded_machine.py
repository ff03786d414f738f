"""The guarded search alone, on made-up curves: it leaves out culprits, misses nothing and comes to an end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import ValidationError

from theriac.search.guarded.machine import (
    COSTLY,
    ENOUGH,
    MOST_LEFT_OUT,
    MOST_STEPS,
    NOISE,
    SCOUTED,
    GuardedSearch,
    GuardedState,
    GuardedStep,
    Probes,
)
from theriac.tests.guarded_worlds import World, bare, harm_of, probes, run

SHARES = st.floats(0, 1)


def counts(state: GuardedState, verdict: str) -> list[int]:
    return [step.count for step in state.trace if step.verdict == verdict]


def test_scouting_doubles_until_half_is_healed_and_walks_from_the_count_before():
    state, _ = run(bare(limit=10 * SCOUTED, half=100), probes(10 * SCOUTED))
    assert counts(state, "scouted") == [10, 20, 40, 80, 160]
    assert counts(state, "accepted")[0] == 80
    assert all(step.flips_target is step.flips_other is step.score is None for step in state.trace[:5])


def test_scouting_halves_where_the_first_count_heals_half():
    state, _ = run(bare(limit=100 * SCOUTED, half=30), probes(100 * SCOUTED))
    assert counts(state, "scouted") == [100, 50, 25]
    assert counts(state, "accepted")[0] == 25


def test_scouting_goes_down_to_a_single_weight_and_starts_there():
    state, _ = run(bare(limit=4 * SCOUTED, half=1), probes(4 * SCOUTED))
    assert counts(state, "scouted") == [4, 2, 1]
    assert counts(state, "accepted")[0] == 1


def test_where_even_all_weights_do_not_heal_half_there_is_no_stop():
    state, _ = run(bare(limit=700, half=701), probes(700))
    assert counts(state, "scouted") == [2, 4, 8, 16, 32, 64, 128, 256, 512, 700]
    assert len(state.trace) == 10
    assert (state.status, GuardedSearch().chosen(state), GuardedSearch().flat(state)) == ("over", None, None)


def test_all_weights_that_heal_half_are_enough_to_walk():
    state, _ = run(bare(limit=700, half=700), probes(700))
    assert counts(state, "accepted") == [512, 640, 700]
    stop = GuardedSearch().chosen(state)
    assert stop is not None
    assert (stop.count, stop.healed) == (700, ENOUGH)


def test_the_walk_grows_by_a_quarter():
    state, _ = run(bare(limit=2000, half=500), probes(2000))
    walked = counts(state, "accepted")
    assert walked[-1] == 1094 >= 2 * 500
    assert walked == [448, 560, 700, 875, 1094]


def test_a_jump_is_halved_until_one_weight_stands_alone():
    state, _ = run(bare(half=100, target={100: 0.5}), probes())
    jumped = [step for step in state.trace if step.verdict == "rejected"]
    assert [step.count for step in jumped][:2] == [120, 108]
    assert state.left_out == (100,)
    (alone,) = (step for step in state.trace if step.verdict == "left_out")
    assert (alone.count, alone.left_out, alone.score) == (101, (), None)
    after = state.trace[state.trace.index(alone) + 1]
    assert (after.left_out, after.verdict) == ((100,), "accepted")
    assert after.flips_target == 0.0
    stop = GuardedSearch().chosen(state)
    assert stop is not None
    assert (stop.healed, stop.left_out) == (1.0, (100,))


def test_a_weight_that_heals_more_than_it_harms_is_kept():
    def measure(count: int, left_out: tuple[int, ...]) -> tuple[float, float, float]:
        healer = count > 100 and 100 not in left_out
        return 0.2 + 0.7 * healer, 0.1 * healer, 0.0

    search = GuardedSearch(harm_weight=4.0, most_harm=0.03)
    state, _ = run(measure, probes(), search)
    assert state.left_out == ()
    stop = search.chosen(state)
    assert stop is not None
    assert stop.healed == pytest.approx(0.9)
    assert stop.flips_target == 0.1


def test_a_weight_that_harms_more_than_a_stop_may_is_left_out_however_much_heals_in_its_step():
    search = GuardedSearch(harm_weight=4.0, most_harm=0.03)
    state, _ = run(bare(half=100, other={50: 0.1}), probes(), search)
    assert state.left_out == (50,)
    stop = search.chosen(state)
    assert stop is not None
    assert stop.healed == 1.0


@st.composite
def culprits(draw: st.DrawFn) -> World:
    """Up to five ranks that each cost more than all others together can heal."""
    limit = draw(st.integers(20, 3000))
    ranks = draw(st.lists(st.integers(0, limit - 1), max_size=5, unique=True))
    sort = draw(st.lists(st.booleans(), min_size=len(ranks), max_size=len(ranks)))
    shares = [draw(st.floats(0.6, 0.7)) for _ in ranks]
    target, other = (
        {rank: share for rank, own, share in zip(ranks, sort, shares, strict=True) if own is which}
        for which in (True, False)
    )
    return World(limit=limit, half=draw(st.integers(1, limit // 2)), target=target, other=other)


@given(world=culprits())
def test_sharp_culprits_are_left_out_and_nothing_else(world: World):
    search = GuardedSearch(harm_weight=4.0)
    state, _ = run(world, probes(world.limit, target_rate=0.5), search)
    assert set(state.left_out) == {rank for rank in world.target | world.other if rank < state.accepted}
    assert list(state.left_out) == sorted(state.left_out)
    stop = search.chosen(state)
    assert stop is not None
    most = world.healed(world.limit - len(state.left_out))
    assert stop.healed == pytest.approx(most, abs=0.51 / world.half)
    assert (stop.flips_target, stop.flips_other) == (0.0, 0.0)


@given(limit=st.integers(300, 3000), half=st.integers(20, 300), slope=SHARES)
def test_where_harm_is_spread_nothing_is_left_out(limit: int, half: int, slope: float):
    state, _ = run(bare(limit=limit, half=half, slope=slope), probes(limit))
    assert state.left_out == ()
    stop = GuardedSearch().chosen(state)
    assert stop is None or stop.left_out == ()


def test_spread_harm_that_jumps_in_a_step_passes_the_halves():
    state, _ = run(bare(limit=600, half=300, slope=0.15), probes(600), GuardedSearch(harm_weight=100.0))
    assert {"rejected", "accepted"} <= {step.verdict for step in state.trace}
    assert state.left_out == ()
    assert state.status == "over"


def test_what_costs_little_is_no_jump_however_sure_it_is():
    search = GuardedSearch()
    cheap = 0.9 * COSTLY * search.most_harm / 0.1
    assert cheap > NOISE * math.sqrt(cheap * (1 - cheap) / 10**6)
    for share, left_out in ((cheap, ()), (1.3 * cheap, (150,))):
        state, _ = run(bare(target={150: share}, plateau=True), probes(target=10**6))
        assert (state.left_out, state.accepted) == (left_out, 1000)


def test_what_is_noise_is_no_jump_however_much_it_costs():
    least = NOISE * math.sqrt(1 / 20 * (1 - 1 / 20) / 20)
    assert least > 1 / 20
    costly = GuardedSearch(most_harm=0.01)
    sizes = probes(target=20, other=0)
    for share, left_out in ((1 / 20, ()), (1.5 * least, (150,))):
        state, _ = run(bare(target={150: share}, plateau=True), sizes, costly)
        assert state.left_out == left_out
        assert state.accepted > 150


def test_an_empty_probe_never_jumps():
    state, _ = run(bare(target={150: 0.5}), probes(target=0))
    assert state.left_out == ()


def test_what_the_probes_cannot_rule_out_is_said():
    def bound(**sizes: Any) -> float:
        step = GuardedStep(
            count=5,
            left_out=(),
            healed=1.0,
            flips_target=0.5,
            flips_other=0.0,
            harm=0.1,
            verdict="accepted",
        )
        state = walking(GuardedSearch(), probes(target_rate=0.2, **sizes), 5)
        return GuardedSearch().harm_at_most(state, step)

    target, unseen = 0.2 * 0.5 / 5, 0.8 * math.sqrt(0.01 * 0.99) / 10
    assert bound(target=25, other=100) == pytest.approx(0.1 + 2 * math.hypot(target, unseen))
    assert bound(target=25, other=0) == pytest.approx(0.1 + 2 * target)
    assert bound(target=0, other=0) == 0.1


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Harm that is spread, with up to eight ranks that do more, or much more."""
    limit = draw(st.integers(20, 2000))
    shares = st.dictionaries(st.integers(0, limit - 1), st.floats(0, 0.2), max_size=4)
    slope = draw(st.sampled_from([0.0, 0.01, 0.05, 0.2]))
    half = draw(st.integers(1, limit))
    return World(limit=limit, half=half, target=draw(shares), other=draw(shares), slope=slope)


@given(world=worlds(), weight=st.sampled_from([1.0, 4.0, 20.0]), rate=st.sampled_from([0.05, 0.5]))
def test_a_walk_that_ends_early_misses_no_higher_score(world: World, weight: float, rate: float):
    search, sizes = GuardedSearch(harm_weight=weight), probes(world.limit, target_rate=rate)
    state, _ = run(world, sizes, search)
    if not counts(state, "accepted"):
        return
    assert len(state.trace) < MOST_STEPS
    sharp = {rank for rank in world.target | world.other if rank >= state.accepted}
    later = [
        step
        for count in range(state.accepted, world.limit + 1)
        for left_out in (state.left_out, (*state.left_out, *sharp))
        if fits(step := accepted(world, count, sizes, left_out), search)
    ]
    best = search.chosen(state)
    assert best is not None or not later
    scores = [step.healed - weight * (step.harm or 0.0) for step in later]
    assert best is None or max(scores, default=-math.inf) <= (best.score or 0.0) + 1e-9


def accepted(world: World, count: int, sizes: Probes, left_out: tuple[int, ...]) -> GuardedStep:
    healed, target, other = world(count, left_out)
    return GuardedStep(
        count=count,
        left_out=left_out,
        healed=healed,
        flips_target=target,
        flips_other=other,
        harm=harm_of(target, other, sizes),
        verdict="accepted",
    )


def fits(step: GuardedStep, search: GuardedSearch) -> bool:
    return step.healed >= ENOUGH and (step.harm or 0.0) <= search.most_harm


def test_a_gain_elsewhere_makes_up_for_flips():
    search = GuardedSearch()
    flipped, harmed = (
        search.update(walking(search, probes(), 10), 0.5, 0.02, 0.02, harm) for harm in (0.0, 0.02)
    )
    assert flipped.score == 0.5
    assert harmed.score == pytest.approx(0.5 - search.harm_weight * 0.02)


def test_the_walk_ends_where_more_healing_cannot_pay_for_the_harm():
    measures = {100: (0.9, 0.0, 0.0, 0.0), 125: (0.95, 0.2, 0.0, 0.02)}
    search, sizes = GuardedSearch(harm_weight=10.0, most_harm=0.1), probes(100 * SCOUTED, target_rate=0.1)
    state = walking(search, sizes, 100)
    state = search.update(state, *measures[100])
    assert state.phase == "walking"
    state = search.update(state, *measures[125])
    assert (state.phase, state.trace[-1].verdict) == ("over", "accepted")
    assert search.chosen(state) == state.trace[-2]


def walking(search: GuardedSearch, sizes: Probes, count: int) -> GuardedState:
    return replace(search.start(sizes), phase="walking", count=count)


@given(data=st.data(), limit=st.integers(1, 2000), harm=st.sampled_from([0.01, 0.03, 0.3, 1.0]))
def test_whatever_is_measured_it_ends_and_keeps_its_promises(data: st.DataObject, limit: int, harm: float):
    seed = data.draw(st.randoms(use_true_random=False))
    top = data.draw(st.sampled_from([0.02, 0.2, 1.0]))
    sizes = probes(limit, target=data.draw(st.sampled_from([0, 1, 300])), target_rate=data.draw(SHARES))
    search = GuardedSearch(most_harm=harm)
    state, measured = run(lambda *_: (seed.random(), top * seed.random(), top * seed.random()), sizes, search)
    assert state.status == "over"
    assert len(state.trace) == len(measured) <= MOST_STEPS
    assert len(state.left_out) <= MOST_LEFT_OUT + 1
    assert all(1 <= step.count <= limit for step in state.trace)
    assert all(rank < step.count for step in state.trace for rank in step.left_out)
    stop, flat = search.chosen(state), search.flat(state)
    assert (stop is None) == (flat is None)
    if stop is not None and flat is not None:
        assert flat[0] <= stop.count <= flat[1]
        assert stop.healed >= ENOUGH
        assert (stop.harm or 0.0) <= search.most_harm
        assert stop.verdict == "accepted"
        assert stop.score == max(s.score for s in state.trace if s.score is not None and fits(s, search))
    for length in range(0, len(measured) + 1, max(1, len(measured) // 7)):
        prefix = search.replay(sizes, measured[:length])
        assert prefix.trace == state.trace[:length]
        for further in measured[length:]:
            prefix = search.update(prefix, *further)
        assert prefix == state


def test_a_stop_never_harms_more_than_it_may_nor_heals_less_than_half():
    state = walking(GuardedSearch(harm_weight=0.001), probes(target_rate=0.5), 100)
    for measured in ((0.49, 0.0, 0.0, 0.0), (0.5, 0.01, 0.01, 0.01), (1.0, 0.02, 0.02, 0.02)):
        state = GuardedSearch(harm_weight=0.001).update(state, *measured)
    assert counts(state, "accepted") == [100, 125, 157]
    for most_harm, count in ((0.03, 157), (0.015, 125), (0.005, None)):
        chosen = GuardedSearch(harm_weight=0.001, most_harm=most_harm).chosen(state)
        assert (chosen and chosen.count) == count


def test_the_interval_is_wider_where_fewer_samples_tell():
    def flat(suspected: int) -> tuple[int, int]:
        sizes = probes(2000, suspected=suspected)
        state, _ = run(bare(limit=2000, half=500), sizes)
        found = GuardedSearch().flat(replace(state, probes=sizes, trace=tuple(map(nearly, state.trace))))
        assert found is not None
        return found

    def nearly(step: GuardedStep) -> GuardedStep:
        """One sample in ten is never healed, so that the share has a deviation."""
        return (
            step if step.score is None else replace(step, healed=0.9 * step.healed, score=0.9 * step.healed)
        )

    few, many = flat(5), flat(10**6)
    assert few[0] < many[0] <= many[1] == few[1]


def test_a_search_that_is_over_takes_no_more():
    state, measured = run(bare(), probes())
    with pytest.raises(ValueError, match="over"):
        GuardedSearch().update(state, 1.0, 0.0, 0.0, 0.0)
    assert GuardedSearch().replay(probes(), [*measured, (0.0, 1.0, 1.0, 1.0)]) == state


@pytest.mark.parametrize(
    "missing", [(None, None, None), (None, 0.0, 0.0), (0.0, None, 0.0), (0.0, 0.0, None)]
)
def test_a_walk_needs_both_flips_and_the_harm(missing: tuple[float | None, float | None, float | None]):
    search = GuardedSearch()
    with pytest.raises(ValueError, match="flips of both probes, and the harm"):
        search.update(walking(search, probes(), 10), 0.5, *missing)


@pytest.mark.parametrize(
    "wrong", [{"harm_weight": 0}, {"harm_weight": -1}, {"most_harm": 0}, {"most_harm": 1.1}, {"harm": 1}]
)
def test_settings_validate_themselves(wrong: dict[str, float]):
    with pytest.raises(ValidationError):
        GuardedSearch(**wrong)


@pytest.mark.parametrize("wrong", [{"suspected": 0}, {"target": -1}, {"target_rate": 1.1}, {"limit": -1}])
def test_sizes_validate_themselves(wrong: dict[str, Any]):
    with pytest.raises(ValidationError):
        Probes(**{**probes().model_dump(), **wrong})
