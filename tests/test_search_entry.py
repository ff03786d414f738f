"""What every search over how hard to dampen keeps to. A new search is a row of `SEARCHES`."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from theriac.search.dampening_run import Operation
from theriac.search.expected import Sizes
from theriac.search.given import as_batches
from theriac.search.interface import Start
from theriac.search.own_settings import SearchFields
from theriac.search.searches import SEARCH_ENTRIES, AnyStart
from theriac.search.settings import SEARCHES as OWN_SETTINGS, HealSettings, heal_settings
from theriac.tests.poisoned import poisoned_digits

Row = dict[str, Any]
STARTS: TypeAdapter[Start] = TypeAdapter(AnyStart)
DIGITS = poisoned_digits()


@dataclass(frozen=True)
class Case:
    """A search on small data.

    Attributes:
        heals: settings with which it heals `DIGITS`, after several settings.
        hopeless: settings with which nothing can be found.
    """

    heals: dict[str, Any] = field(default_factory=dict)
    hopeless: dict[str, Any] = field(default_factory=dict)


SEARCHES: dict[str, Case] = {
    "ptn": Case(heals={"s_step": 1.3}, hopeless={"max_steps": 2, "b_start": 1e9}),
    "grid": Case(heals={"alphas": (1.0, 5.0, 20.0), "held_out": 200}, hopeless={"alphas": (1e12,)}),
    "tpe": Case(
        heals={"samples": 6, "held_out": 200, "alpha_range": (2.0, 20.0)},
        hopeless={"samples": 2, "alpha_range": (1e12, 1e13)},
    ),
    "guarded": Case(heals={}, hopeless={"dampening_constant": 1e12}),
}
every_search = pytest.mark.parametrize("search", SEARCHES)


def operation(search: str, given: dict[str, Any]) -> Operation:
    cpu = torch.device("cpu")
    forget, retain = (
        as_batches(data, name="set", device=cpu, batch_size=512) for data in (DIGITS.found, DIGITS.rest)
    )
    return Operation(DIGITS.model, forget, retain, heal_settings(search=search, **given))


@cache
def healed(search: str) -> tuple[Operation, tuple[str, ...]]:
    """A search and all its rows, as they travel."""
    one = operation(search, SEARCHES[search].heals)
    return one, tuple(json.dumps(row) for row in one.carry_on([]))


def rows_of(search: str) -> list[Row]:
    return [json.loads(row) for row in healed(search)[1]]


def as_text(rows: list[Row]) -> list[str]:
    return [json.dumps(row) for row in rows]


def test_every_search_has_a_row_and_words_of_its_own() -> None:
    assert list(SEARCHES) == list(SEARCH_ENTRIES)
    entries = SEARCH_ENTRIES.values()
    assert len({entry.title for entry in entries}) == len({entry.about for entry in entries}) == len(SEARCHES)
    for name, entry in SEARCH_ENTRIES.items():
        assert entry.name == name
        assert entry.instead in SEARCH_ENTRIES
        assert entry.instead != name
        assert all((entry.no_stop, entry.chosen, entry.gentler))
        assert 20 < len(entry.about) < 100


@every_search
def test_its_settings_are_those_of_the_healing(search: str) -> None:
    entry = SEARCH_ENTRIES[search]
    assert issubclass(entry.fields, SearchFields)
    assert issubclass(HealSettings, entry.fields)
    assert set(OWN_SETTINGS[search]) == set(entry.fields.model_fields) - set(SearchFields.model_fields)
    assert all(hasattr(heal_settings(search=search), name) for name in entry.depends_on)


@every_search
def test_it_is_the_same_in_instalments(search: str) -> None:
    one, whole = operation(search, SEARCHES[search].heals), list(healed(search)[1])
    rows: list[Row] = []
    while len(rows) < len(whole):
        new = one.carry_on(rows, 0, 2)
        assert 1 <= len(new) <= 2
        rows += json.loads(json.dumps(new))
    assert as_text(rows) == whole
    assert one.carry_on(rows) == []


@every_search
def test_settings_that_others_evaluate_may_be_skipped(search: str) -> None:
    """Where they change nothing; a search whose steps depend on each other has no place after a skip."""
    one, rows = healed(search)[0], rows_of(search)
    start = one.searching.start
    if SEARCH_ENTRIES[search].in_order:
        assert start.place(rows[:1], 1) is None
        return
    for number in range(len(rows) - 1):
        same_way = start.place(rows[:number], 1) == start.place(rows[: number + 1])
        if start.place(rows[:number], 1) is not None and same_way:
            assert as_text(one.carry_on(rows[:number], 1, 1)) == as_text(rows[number + 1 : number + 2])


@every_search
def test_another_process_follows_it_by_its_start_and_its_rows(search: str) -> None:
    start, rows = healed(search)[0].searching.start, rows_of(search)
    text = start.model_dump_json()  # type: ignore[attr-defined]
    read = STARTS.validate_json(text)
    assert isinstance(start, SEARCH_ENTRIES[search].start)
    assert read == start
    places = [read.place(rows[:number]) for number in range(len(rows) + 1)]
    assert None not in places[:-1]
    assert places[-1] is None
    assert len(set(places)) == len(places)
    assert [read.needed(rows[:number]) for number in (0, 1, len(rows))] == [0, 1, len(rows)]


@every_search
def test_what_it_finds_follows_from_its_rows(search: str) -> None:
    one, rows = healed(search)[0], rows_of(search)
    found, again = one.conclude(rows), operation(search, SEARCHES[search].heals).conclude(rows)
    assert found.status == again.status == "stopped"
    assert found.chosen == again.chosen
    assert found.found.columns() == again.found.columns()
    assert found.found.columns()["steps"] == len(rows) == len(found.found.rows())
    assert found.found.dampening_constant
    changed = again.at_the_stop().state_dict()
    assert any(not torch.equal(value, DIGITS.model.state_dict()[name]) for name, value in changed.items())


@every_search
def test_a_search_that_finds_nothing_gives_the_victim_back(search: str) -> None:
    one = operation(search, SEARCHES[search].hopeless)
    outcome = one.conclude(one.carry_on([]))
    assert outcome.status == "no_stop"
    assert outcome.chosen is None
    assert outcome.found.dampening_constant is None
    weights = outcome.at_the_stop().state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in DIGITS.model.state_dict().items())
    assert list(outcome.found.beyond_the_stop(outcome.problem, 3)) == []


@every_search
def test_it_goes_beyond_the_stop_if_it_says_so(search: str) -> None:
    one = healed(search)[0]
    outcome = one.conclude(rows_of(search))
    beyond = list(outcome.found.beyond_the_stop(outcome.problem, 2))
    assert bool(beyond) == SEARCH_ENTRIES[search].walks


@every_search
def test_a_plan_counts_its_settings(search: str) -> None:
    expected, settings = (
        SEARCH_ENTRIES[search].expected,
        heal_settings(search=search, **SEARCHES[search].heals),
    )
    sizes = Sizes(forget=40, train=1000)
    start, rows = expected.start(settings, sizes), list[Row]()
    while start.place(rows) is not None:
        rows += expected.rows(start, settings, sizes, rows, 0, 7)
    assert len(rows) == expected.count(settings, None)
    assert expected.rows(start, settings, sizes, rows, 0, 7) == []
    assert (settings.setting_count is not None) == expected.counted
    assert expected.counted is False or settings.setting_count == len(rows)
    assert expected.assumed
    looked = expected.setting(settings, sizes)
    assert 0 < looked.forget <= 40
    assert 0 <= looked.others <= 2000


@every_search
def test_a_plan_counts_held_out_samples_where_the_search_has_them(search: str) -> None:
    settings, sizes = heal_settings(search=search), Sizes(forget=40, train=5000)
    held_out = settings.held_out if "held_out" in OWN_SETTINGS[search] else 0
    assert SEARCH_ENTRIES[search].expected.beginning(settings, sizes).others == held_out
