"""Sampled settings: a function of the seed and of earlier rounds, whatever arrives when."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given, settings, strategies as st

from theriac.search.sampler import Direction, Sampler
from theriac.search.training.registry import TRAINED_METHODS
from theriac.search.training.spaces import Choice, Range, Space, distributions

SPACE: Space = {
    "rate": Range(low=1e-4, high=1.0, log=True),
    "steps": Range(low=1, high=9),
    "kind": Choice(choices=("a", "b")),
}
FIRST = {"rate": 0.01, "steps": 3, "kind": "b", "other": 5}


def sampler(together: int = 1, seed: int = 0, objectives: int = 1) -> Sampler:
    directions: list[Direction] = ["maximize"] * objectives
    return Sampler(distributions(SPACE), directions, seed=seed, first=FIRST, together=together)


def worth(drawn: dict) -> list[float]:
    return [-abs(drawn["rate"] - 0.3) - 0.1 * drawn["steps"]]


@pytest.mark.parametrize("together", [1, 3])
def test_settings_of_a_round_do_not_depend_on_when_its_values_arrive(together: int):
    values: list = []
    whole = []
    for number in range(16):
        begun = number // together * together
        drawn = sampler(together).replay(values[:begun], number)
        assert drawn == sampler(together).replay([*values, [0.5]], number), "later values must change nothing"
        whole.append(drawn)
        values.append(None if number == 5 else worth(drawn))
    assert whole[0] == {"rate": 0.01, "steps": 3, "kind": "b"}
    assert len({str(drawn) for drawn in whole}) == 16
    assert any(drawn != other for drawn, other in zip(whole, straight(16), strict=True)) is (together > 1)


def straight(count: int) -> list[dict]:
    """One sampler that is asked and told in turn."""
    one, drawn = sampler(), []
    for number in range(count):
        drawn.append(one.ask())
        one.tell(None if number == 5 else worth(drawn[-1]))
    return drawn


def test_a_setting_needs_all_earlier_rounds():
    with pytest.raises(ValueError, match="depends on 4 values, and there are 3"):
        sampler(together=2).replay([[0.0]] * 3, 5)
    with pytest.raises(ValueError, match="ask for a setting first"):
        sampler().tell([0.0])


def test_two_objectives_and_another_seed():
    values = [[1.0, 0.0], [0.0, 1.0], None] * 5
    drawn = sampler(objectives=2).replay(values, 14)
    assert drawn == sampler(objectives=2).replay(values, 14)
    assert drawn != sampler(objectives=2, seed=1).replay(values, 14)


@settings(max_examples=25)
@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.booleans())
def test_a_range_holds_its_bounds_and_refuses_others(one: float, other: float, log: bool):
    low, high = sorted((one, other))
    if low == high:
        with pytest.raises(ValueError, match="low < high"):
            Range(low=low, high=high)
        return
    dimension = Range(low=low, high=high, log=log)
    assert all(dimension.holds(value) for value in dimension.extremes)
    assert not dimension.holds(high * 1.01)
    assert not dimension.holds("high")


def test_whole_bounds_give_whole_numbers_and_odd_ones_are_refused():
    assert isinstance(Range(low=1, high=5).distribution(), optuna.distributions.IntDistribution)
    assert isinstance(Range(low=1.0, high=5).distribution(), optuna.distributions.FloatDistribution)
    with pytest.raises(ValueError, match="above 0 with log"):
        Range(low=0, high=5, log=True)
    with pytest.raises(ValueError, match="finite"):
        Range(low=0, high=float("inf"))
    assert Choice(choices=(None, True)).holds(None)


@pytest.mark.parametrize("method", TRAINED_METHODS)
def test_every_space_holds_the_defaults_and_nothing_that_its_method_refuses(method: str):
    from theriac.search.training.parameters import check_space, defaults

    check_space(method, TRAINED_METHODS[method].space, {})
    for name, dimension in TRAINED_METHODS[method].space.items():
        assert dimension.holds(defaults(method, {})[name]), (name, defaults(method, {})[name])
