"""What stays in memory between jobs, and what goes first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pytest
from hypothesis import given, strategies as st

from theriac.search.sweep.cache import Keeper


@dataclass
class Thing:
    held_bytes: int


def kept(keeper: Keeper, names: str) -> str:
    """Those of ``names`` that are still there; asking does not count as use."""
    return "".join(name for name in names if name in keeper._things)


def job(keeper: Keeper, names: str, size: int = 10) -> list[Thing]:
    keeper.begin()
    return [keeper.get(name, lambda: Thing(size)) for name in names]


def test_what_is_there_is_not_made_again():
    keeper = Keeper(100)
    (first,) = job(keeper, "a")
    (again,) = job(keeper, "a")
    assert again is first


def test_what_was_used_least_recently_goes_first():
    keeper = Keeper(30)
    for names in ("a", "b", "c", "a", "d"):
        job(keeper, names)
    assert kept(keeper, "abcd") == "acd"
    job(keeper, "e")
    assert kept(keeper, "abcde") == "ade"


def test_a_budget_that_is_just_reached_lets_nothing_go():
    keeper = Keeper(30)
    job(keeper, "abc")
    keeper.begin()
    assert kept(keeper, "abc") == "abc"
    assert keeper.held_bytes == 30


def test_what_the_present_job_uses_stays_however_large():
    keeper = Keeper(30)
    job(keeper, "a")
    job(keeper, "bcdef")
    assert kept(keeper, "abcdef") == "bcdef"
    job(keeper, "f")
    assert kept(keeper, "abcdef") == "def"


def test_what_an_earlier_job_made_is_protected_when_it_is_used_again():
    keeper = Keeper(20)
    job(keeper, "ab")
    (a, _) = job(keeper, "ac")
    assert kept(keeper, "abc") == "ac"
    assert job(keeper, "a") == [a]


def test_a_budget_of_nothing_keeps_what_the_present_job_uses():
    keeper = Keeper(0)
    first, second = job(keeper, "aa")
    assert first is second
    job(keeper, "b")
    assert kept(keeper, "ab") == "b"
    keeper.begin()
    assert (kept(keeper, "ab"), keeper.held_bytes) == ("", 0)


def test_things_that_grow_make_others_go_at_the_next_job():
    keeper = Keeper(30)
    b = job(keeper, "ab")[1]
    b.held_bytes = 25
    assert kept(keeper, "ab") == "ab"
    keeper.begin()
    assert kept(keeper, "ab") == "b"
    b.held_bytes = 31
    keeper.begin()
    assert kept(keeper, "ab") == ""


def test_what_cannot_be_made_leaves_nothing_behind():
    keeper = Keeper(30)
    keeper.begin()
    with pytest.raises(ZeroDivisionError):
        keeper.get("a", lambda: Thing(1 // 0))
    assert keeper.get("a", lambda: Thing(7)).held_bytes == 7


def test_making_one_thing_may_ask_for_another():
    keeper = Keeper(0)
    keeper.begin()
    inner = Thing(5)
    outer = keeper.get("outer", lambda: Thing(keeper.get("inner", lambda: inner).held_bytes + 1))
    assert outer.held_bytes == 6
    assert keeper.get("inner", lambda: Thing(0)) is inner


@given(
    budget=st.integers(0, 50),
    jobs=st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30)), max_size=4), max_size=12),
)
def test_it_never_holds_more_than_the_budget_and_the_present_job(budget, jobs):
    keeper = Keeper(budget)
    for uses in jobs:
        keeper.begin()
        assert keeper.held_bytes <= budget
        for key, size in uses:
            keeper.get(key, partial(Thing, size))
        used = sum(keeper._things[key].held_bytes for key in {key for key, _ in uses})
        assert keeper.held_bytes <= max(budget, used)
