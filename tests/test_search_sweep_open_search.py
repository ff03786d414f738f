"""Blocks of one search, in and out of order, in time and in vain."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from theriac.search.grid.start import GridStart
from theriac.search.interface import Start
from theriac.search.ptn.machine import PTNSearch
from theriac.search.ptn.start import PTNStart
from theriac.search.sweep.open_search import Block, OpenSearch

Row = dict[str, Any]


def ptn(**settings: Any) -> PTNStart:
    search = PTNSearch(**{"s_step": 2.0, "max_steps": 30, **settings})
    return PTNStart(search=search, forget_count=10, train_count=1000, forget_accuracy=1.0)


def measured(start: Start, block: Block, edge: float) -> list[Row]:
    """The rows of a block; S_f is believed as long as s is below ``edge``."""
    if isinstance(start, GridStart):
        last = min(block.first + block.count, start.count)
        return [{"pair": number} for number in range(block.first, last)]
    assert isinstance(start, PTNStart)
    state, rows = start.search.ahead(start.after(block.history), block.skip), list[Row]()
    while state.status == "searching" and len(rows) < block.count:
        rows.append({"s": state.s, "forget_accuracy": 1.0 if state.s < edge else 0.0})
        state = start.search.update(state, rows[-1]["forget_accuracy"])
    return rows


def take(search: OpenSearch, block: Block, start: Start, edge: float = 1e9) -> list[Row]:
    rows = measured(start, block, edge)
    search.take(block, start, rows, 1.0)
    return rows


def begun(start: Start, count: int = 1, edge: float = 1e9) -> OpenSearch:
    """With the first block taken."""
    search = OpenSearch()
    block = search.next_block(count)
    assert block
    take(search, block, start, edge)
    return search


def blocks(search: OpenSearch, *counts: int) -> list[Block]:
    found = [search.next_block(count, speculate=True) for count in counts]
    assert all(found)
    return [block for block in found if block]


def test_the_first_block_goes_alone():
    search = OpenSearch()
    assert not search.begun
    block = search.next_block(3)
    assert block
    assert (block.history, block.skip, block.count, block.alone) == ((), 0, 3, True)
    assert (search.begun, search.out) == (True, 1)
    assert search.next_block(3, speculate=True) is None
    search.give_back(block)
    assert not search.begun
    assert search.next_block(5)


def test_without_speculation_one_block_is_out():
    search = begun(ptn())
    first = search.next_block(2)
    assert first
    assert first.alone
    assert search.next_block(2) is None
    take(search, first, ptn())
    assert len(search.history) == 3


def test_blocks_that_come_early_wait_for_those_before():
    start = ptn()
    search = begun(start)
    one, two, three = blocks(search, 2, 3, 4)
    assert [(block.first, block.skip, block.alone) for block in (one, two, three)] == [
        (1, 0, True),
        (3, 2, False),
        (6, 5, False),
    ]
    take(search, three, start)
    take(search, two, start)
    assert len(search.history) == 1
    take(search, one, start)
    assert [row["s"] for row in search.history] == [0.01 / 25 * 2**n for n in range(10)]
    assert (search.wasted, search.seconds) == (0, 4.0)


def test_what_lies_behind_the_stop_is_wasted():
    start, edge = ptn(), 0.01 / 25 * 2**3.5
    search = begun(start)
    one, two, three = blocks(search, 2, 2, 2)
    take(search, three, start, edge)
    take(search, one, start, edge)
    assert not search.complete
    take(search, two, start, edge)
    assert search.complete
    assert [row["s"] for row in search.history] == [0.01 / 25 * 2**n for n in range(5)]
    assert search.wasted == 1


def test_late_answers_of_a_complete_search_are_wasted():
    start, edge = ptn(), 0.01 / 25 * 2**1.5
    search = begun(start)
    one, two = blocks(search, 2, 2)
    take(search, one, start, edge)
    before = search.history
    assert search.complete
    take(search, two, start, edge)
    assert (search.history, search.wasted) == (before, 1)


def test_rows_after_the_end_are_not_taken():
    search = begun(GridStart(count=4))
    (block,) = blocks(search, 9)
    search.take(block, GridStart(count=4), [{"pair": number} for number in range(1, 9)], 1.0)
    assert [row["pair"] for row in search.history] == [0, 1, 2, 3]
    assert search.wasted == 5


def test_a_search_that_turned_does_not_take_rows_of_the_way_it_left():
    start, edge = ptn(strategy="coarse_fine", s_step=1.1, max_steps=100), 0.01 / 25 * 1.1**12.5
    search = begun(start)
    one, two = blocks(search, 2, 6)
    rows = take(search, two, start, edge)
    assert [row["forget_accuracy"] for row in rows] != []
    take(search, one, start, edge)
    assert len(search.history) == 3
    assert search.wasted == len(rows)
    while not search.complete:
        (block,) = blocks(search, 2)
        take(search, block, start, edge)
    assert search.history == tuple(
        measured(start, Block(history=(), skip=0, count=99, alone=True, place=None), edge)
    )


def test_a_gap_is_filled_up_to_the_next_block():
    search = begun(ptn())
    one, two = blocks(search, 3, 3)
    search.give_back(one)
    (again,) = blocks(search, 100)
    assert (again.first, again.count) == (1, 3)
    assert not again.alone
    (behind,) = blocks(search, 5)
    assert behind.first == 7
    search.give_back(two)
    assert blocks(search, 100)[0].count == 3


def test_after_a_failure_ahead_nobody_goes_ahead():
    search = begun(ptn())
    one, two = blocks(search, 3, 3)
    search.give_back(two, failed=True)
    assert search.next_block(3, speculate=True) is None
    take(search, one, ptn())
    assert search.next_block(3)


def test_nobody_goes_ahead_of_the_last_step():
    start = ptn(max_steps=6)
    search = begun(start)
    blocks(search, 5)
    assert search.next_block(1, speculate=True) is None


def test_who_finishes_a_search_that_several_completed():
    start = GridStart(count=6)
    search = begun(start, 2)
    one, two = blocks(search, 2, 9)
    take(search, one, start)
    take(search, two, start)
    assert search.complete
    last = search.next_block(4)
    assert last
    assert (last.alone, last.skip, len(last.history)) == (True, 0, 6)
    assert search.next_block(4, speculate=True) is None
    search.give_back(last)
    assert search.next_block(4)


@pytest.mark.parametrize("start", [ptn(), ptn(strategy="coarse_fine", max_steps=200), GridStart(count=17)])
@given(exponent=st.floats(-60, 60), chance=st.integers(0, 10**9).map(random.Random))
def test_any_order_of_blocks_gives_the_search(start: Start, exponent: float, chance: random.Random):
    edge = 0.01 / 25 * 2**exponent
    search, out, done = OpenSearch(), list[Block](), list[int]()
    while not search.complete:
        if chance.random() < 0.6 or not out:
            block = search.next_block(chance.randint(1, 9), speculate=chance.random() < 0.7)
            assert block or out, "nothing to do, and not over"
            out += [block] if block else []
        else:
            block = out.pop(chance.randrange(len(out)))
            if chance.random() < 0.8:
                done.append(len(take(search, block, start, edge)))
            else:
                search.give_back(block)
    whole = Block(history=(), skip=0, count=1000, alone=True, place=None)
    assert list(search.history) == measured(start, whole, edge)
    assert len(search.history) + search.wasted == sum(done)
    for block in out:
        take(search, block, start, edge)
    assert list(search.history) == measured(start, whole, edge)
