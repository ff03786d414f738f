"""What may be set together, and that no setting is ignored."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from theriac.errors import BadInput
from theriac.search.grid.pairs import GoelGrid
from theriac.search.ptn.machine import PTNSearch
from theriac.search.searches import SEARCH_ENTRIES
from theriac.search.settings import SEARCHES, HealSettings, heal_settings
from theriac.search.sweep.scenario import Cell
from theriac.search.training.registry import TRAINED_METHODS
from theriac.search.training.settings import TuneSettings
from theriac.unlearning.training import Recipe

DEFAULTS = {name: field.default for name, field in HealSettings.model_fields.items()}
CHANGED: dict[str, dict[str, Any]] = {
    "ptn": {"rho": "auto", "b_start": 5.0, "s_step": 2.0, "max_steps": 9, "strategy": "coarse_fine"},
    "grid": {"alphas": (3.0, 2.0), "relative_lambdas": (0.5,), "held_out": 7},
    "tpe": {"samples": 3, "alpha_range": (1.0, 5.0), "relative_lambda_range": (0.5, 2.0), "held_out": 7},
}


@pytest.mark.parametrize(("search", "foreign"), [("grid", SEARCHES["ptn"]), ("ptn", SEARCHES["grid"])])
def test_settings_of_the_other_search_are_refused_even_with_their_defaults(
    search: str, foreign: tuple[str, ...]
):
    other = "ptn" if search == "grid" else "grid"
    for name in foreign:
        message = rf"{name} = .*the search '{search}' does not use this; .*choose the search .*'{other}'"
        for value in (DEFAULTS[name], CHANGED[other].get(name, 0.5)):
            with pytest.raises(BadInput, match=message):
                heal_settings(search=search, **{name: value})


def test_every_setting_belongs_to_both_searches_or_to_one():
    common = {
        "method",
        "granularity",
        "search",
        "collapse_drop",
        "collapse_share",
        "compared",
        "precision",
        "batch_size",
    }
    assert set(HealSettings.model_fields) == common | {name for own in SEARCHES.values() for name in own}
    assert not set(SEARCHES["ptn"]) & set(SEARCHES["grid"])
    assert set(SEARCHES["tpe"]) & set(SEARCHES["grid"]) == {"held_out"}


@pytest.mark.parametrize("search", CHANGED)
def test_a_dump_holds_what_is_in_force_and_makes_the_same_settings(search: str):
    settings = heal_settings(search=search, **CHANGED[search])
    foreign = {name for own in SEARCHES.values() for name in own} - set(SEARCHES[search])
    assert set(settings.model_dump()) == set(HealSettings.model_fields) - foreign
    assert set(json.loads(settings.model_dump_json())) == set(settings.model_dump())
    assert HealSettings(**settings.model_dump()) == settings
    cell = Cell(share=0.2, settings=settings)
    assert Cell.model_validate_json(cell.model_dump_json()) == cell
    assert cell.search == search


def test_the_searches_they_ask_for():
    assert heal_settings().ptn(0.2) == PTNSearch()
    assert heal_settings(search="grid").grid() == GoelGrid()
    grid = heal_settings(search="grid", **CHANGED["grid"]).grid()
    assert grid.pairs() == [(3.0, 1.5), (2.0, 1.0)]
    assert heal_settings(s_step=2.0, max_steps=9).ptn(0.3) == PTNSearch(rho=0.3, s_step=2.0, max_steps=9)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"search": "raster"},
            f"search = 'raster': Input should be {', '.join(map(repr, SEARCHES))}".rpartition(",")[0],
        ),
        ({"search": "grid", "alphas": ()}, r"alphas = \(\): .*give at least one number"),
        ({"search": "grid", "alphas": (1.0, 0.0)}, "give finite numbers above 0"),
        (
            {"search": "grid", "alphas": (1.0, float("inf"))},
            r"alphas\.1 = inf: Input should be a finite number",
        ),
        ({"search": "grid", "relative_lambdas": (1.0, 1.0)}, "give every number once"),
        ({"search": "grid", "held_out": 0}, "held_out = 0.*greater than or equal to 1"),
        ({"searches": "grid"}, "unknown setting 'searches'; the valid ones are .*search"),
    ],
)
def test_wrong_values_are_one_clear_error(wrong: dict[str, Any], message: str):
    with pytest.raises(BadInput, match=message):
        heal_settings(**wrong)


def whole_numbers(kind: type[BaseModel]) -> list[str]:
    """The fields that take a whole number, whatever else they take."""
    return [
        name
        for name, field in kind.model_fields.items()
        if int in (field.annotation, *get_args(field.annotation))
        or any(int in get_args(one) for one in get_args(field.annotation))
    ]


ALL_SETTINGS: list[type[BaseModel]] = [
    *(entry.fields for entry in SEARCH_ENTRIES.values()),
    *(entry.load() for entry in TRAINED_METHODS.values()),
    TuneSettings,
    Recipe,
]


@pytest.mark.parametrize("kind", ALL_SETTINGS)
def test_whole_numbers_beyond_what_a_machine_counts_are_refused(kind: type[BaseModel]):
    needed = {"method": "ga"} if kind is TuneSettings else {}
    for name in whole_numbers(kind):
        with pytest.raises(ValidationError, match="less than") as caught:
            kind.model_validate({**needed, name: 2**63})
        assert any(name in error["loc"] for error in caught.value.errors())


def test_whole_numbers_are_found():
    assert {"batch_size", "compared", "piece", "max_steps"} <= set(
        whole_numbers(SEARCH_ENTRIES["ptn"].fields)
    )
    assert {"probe_target", "probe_other"} <= set(whole_numbers(SEARCH_ENTRIES["guarded"].fields))


def test_they_can_be_read_without_torch():
    code = "import sys, theriac.search.settings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
