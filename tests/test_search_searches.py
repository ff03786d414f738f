"""Where a search stands, told from its rows alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter, ValidationError

from theriac.search.grid.start import GridStart
from theriac.search.interface import Start
from theriac.search.ptn.machine import PTNSearch, PTNState
from theriac.search.ptn.start import PTNStart
from theriac.search.searches import AnyStart

Row = dict[str, Any]
STARTS: TypeAdapter[Start] = TypeAdapter(AnyStart)


def ptn(**settings: Any) -> PTNStart:
    search = PTNSearch(**{"s_step": 2.0, "max_steps": 50, **settings})
    return PTNStart(search=search, forget_count=10, train_count=1000, forget_accuracy=0.9)


def rows(*accuracies: float) -> list[Row]:
    return [{"forget_accuracy": accuracy, "alpha": 1.0} for accuracy in accuracies]


def steps(start: PTNStart, *accuracies: float) -> PTNState:
    state = start.search.start(forget_count=10, train_count=1000, victim_forget_accuracy=0.9)
    for accuracy in accuracies:
        state = start.search.update(state, accuracy)
    return state


def test_rows_lead_to_the_state_that_they_were_measured_in():
    start = ptn()
    assert start.after([]) == steps(start)
    assert start.after(rows(0.9, 0.5)) == steps(start, 0.9, 0.5)
    assert start.after(rows(0.9, 0.1, 0.9)) == steps(start, 0.9, 0.1)


def test_the_threshold_is_a_share_of_the_victims_accuracy():
    start = ptn()
    assert start.place(rows(0.9, 0.181)) is not None
    assert start.place(rows(0.9, 0.18)) is None


@given(
    strategy=st.sampled_from(["plain", "coarse_fine"]),
    first=st.booleans(),
    before=st.integers(1, 30),
    after=st.integers(0, 30),
)
def test_skipping_leads_where_steps_without_a_turn_lead(strategy, first, before, after):
    start, accuracy = ptn(strategy=strategy), 0.0 if first else 0.9
    history = rows(*[accuracy] * before)
    assert start.place(history, after) == start.place(rows(*[accuracy] * (before + after)))


def test_a_turn_leads_to_another_place():
    start = ptn(strategy="coarse_fine")
    guessed = start.place(rows(0.9), 2)
    assert guessed is not None
    assert start.place(rows(0.9, 0.9, 0.1)) not in (guessed, None)
    assert start.place(rows(0.1, 0.1)) != start.place(rows(0.9, 0.9))


def test_places_of_fine_steps_tell_where_they_end():
    start = ptn(strategy="coarse_fine", s_step=1.1, max_steps=100)
    once, twice = rows(0.9, 0.1), rows(0.9, 0.9, 0.1)
    assert start.place(once) != start.place(twice)
    assert start.place(once, 6) is not None
    assert start.place(once, 7) is None


def test_nothing_is_needed_after_the_end():
    start = ptn(max_steps=5)
    assert start.needed(rows(0.9, 0.9)) == 2
    assert start.needed(rows(0.9, 0.1, 0.9, 0.9)) == 2
    assert start.needed(rows(*[0.9] * 9)) == 5
    assert start.place(rows(*[0.9] * 5)) is None
    assert start.place(rows(0.9), 3) is not None
    assert start.place(rows(0.9), 4) is None


def test_a_grid_goes_from_pair_to_pair():
    grid = GridStart(count=5)
    assert [grid.place([{}] * n) for n in range(7)] == [0, 1, 2, 3, 4, None, None]
    assert grid.place([{}], 3) == grid.place([{}] * 4)
    assert grid.place([{}], 4) is None
    assert [grid.needed([{}] * n) for n in (0, 4, 5, 6)] == [0, 4, 5, 5]


@pytest.mark.parametrize("start", [ptn(rho=0.1 + 0.2), GridStart(count=3)])
def test_starts_travel_as_json(start: PTNStart | GridStart):
    assert STARTS.validate_json(start.model_dump_json()) == start


@pytest.mark.parametrize("wrong", [{"sort": "grid", "pairs": 0}, {"sort": "x"}, {"pairs": 2, "sort": "ptn"}])
def test_starts_validate_themselves(wrong: Row):
    with pytest.raises(ValidationError):
        STARTS.validate_python(wrong)
