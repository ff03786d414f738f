"""Sweeps of methods that train: which searches and settings they take, and what they need."""

from __future__ import annotations

from typing import Any

import pytest

from theriac.errors import BadInput
from theriac.search.sweep.files import Sweep, dump_sweep, load_sweep
from theriac.search.training.parameters import unlearner
from theriac.search.training.settings import TuneSettings
from theriac.unlearning.methods.ibau import IBAU

BASE = "scenario: {preset: digits, held_back: {clean: 100, selection: 50}}\nshares: [0.5]\n"


def sweep(text: str, write: Any) -> Sweep:
    return load_sweep(write(BASE + text))


def searches(found: Sweep) -> set[tuple[str, str | None]]:
    return {(task.cell.method, task.cell.search) for task in found.tasks()}


def tuning(found: Sweep, method: str) -> TuneSettings:
    (settings,) = [task.cell.tuning for task in found.tasks() if task.cell.method == method]
    assert settings is not None
    return settings


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("", {("xlf", "ptn"), ("rga", "tpe"), ("none", None)}),
        ("searches: [fixed]", {("xlf", "ptn"), ("rga", "fixed"), ("none", None)}),
        ("searches: [ptn, fixed]", {("xlf", "ptn"), ("rga", "fixed"), ("none", None)}),
        ("searches: [tpe]", {("xlf", "tpe"), ("rga", "tpe"), ("none", None)}),
        (
            "searches: [ptn, tpe, fixed]",
            {("xlf", "ptn"), ("xlf", "tpe"), ("rga", "tpe"), ("rga", "fixed"), ("none", None)},
        ),
    ],
)
def test_a_method_takes_the_searches_it_has(listed: str, expected: set, write):
    assert searches(sweep(f"methods: [none, xlf, rga]\n{listed}", write)) == expected


def test_settings_go_to_those_that_have_them(write):
    found = sweep(
        """
methods: [xlf, rga, npo]
settings: {rho: 0.1, samples: 7, compared: 200, b_start: 30}
settings_for:
  - when: {methods: rga}
    set: {parameters: {steps: 40}, space: {c: {low: 0.5, high: 1.0}}, pareto: true}
""",
        write,
    )
    rga, npo = tuning(found, "rga"), tuning(found, "npo")
    assert (rga.rho, rga.samples, rga.compared, rga.pareto) == (0.1, 7, 200, True)
    assert rga.parameters == {"steps": 40}
    assert "steps" not in rga.searched
    assert rga.searched["c"] != npo.searched.get("c")
    assert (npo.parameters, npo.pareto) == ({}, False)
    (xlf,) = [task.cell.dampening for task in found.tasks() if task.cell.dampening]
    assert (xlf.rho, xlf.b_start) == (0.1, 30)
    again = load_sweep(write(dump_sweep(found)))
    assert (again, again.key) == (found, found.key)


def test_alternatives_of_hyperparameters_are_cells_of_their_own(write):
    found = sweep(
        "methods: [ga, xlf]\nsearches: [ptn, fixed]\n"
        "settings: [{parameters: {steps: 5}}, {parameters: {steps: 9}}]",
        write,
    )
    steps = [task.cell.tuning.parameters["steps"] for task in found.tasks() if task.cell.tuning]
    assert steps == [5, 9]
    assert sum(task.cell.method == "xlf" for task in found.tasks()) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "methods: [rga]\nsettings: {parameters: {stepps: 4}}",
            r"method rga: unknown setting 'stepps'; the valid ones are",
        ),
        ("methods: [rga]\nsettings: {parameters: {steps: 0}}", r"steps = 0"),
        ("methods: [xlf]\nsettings: {parameters: {steps: 4}}", r"settings\.parameters: no task uses it"),
        ("methods: [rga]\nsettings: {b_start: 4}", r"settings\.b_start: no task uses it"),
        ("methods: [rga]\nsettings: {samples: 0}", r"settings\.samples = 0"),
        ("methods: [rga]\nsettings: {space: {c: {low: 3, high: 1}}}", r"low < high"),
        ("methods: [rga]\nsettings: {space: {d: {low: 1, high: 3}}}", r"unknown hyperparameter 'd' of rga"),
        ("methods: [rga]\nsettings: {samples: true}", r"give a number or a name"),
        ("methods: [rga]\nsettings: {method: ga}", r"this is an axis of the sweep"),
        ("methods: [rga]\nsearches: [raster]", r"searches\.0 = 'raster'"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str, write):
    with pytest.raises(BadInput, match=said):
        sweep(text, write)


def test_what_methods_and_oracles_look_at_must_be_held_back(write):
    bare = "scenario: digits\nshares: [0.5]\n"
    with pytest.raises(BadInput, match=r"ft needs images known to be clean.*held_back\.clean"):
        load_sweep(write(f"{bare}methods: [ft]"))
    with pytest.raises(BadInput, match=r"'oracle' looks at test images.*held_back\.selection"):
        load_sweep(write(f"{bare}methods: [rga]\nsettings: {{objective: oracle}}"))
    oracle = sweep("methods: [rga, ft]\nsettings: {objective: oracle}", write)
    assert all(task.cell.tuning.uses_oracle for task in oracle.tasks() if task.cell.tuning)
    with pytest.raises(BadInput, match=r"unknown key 'scenario\.held_back\.cleen'"):
        load_sweep(write("scenario: {preset: digits, held_back: {cleen: 5}}"))


def test_published_hyperparameters_go_by_their_names(write):
    found = sweep(
        "methods: [ibau]\nsearches: [fixed]\nsettings: {parameters: {named: released, rounds: 2}}", write
    )
    parameters = tuning(found, "ibau").parameters
    assert parameters == {"named": "released", "rounds": 2}
    chosen = unlearner("ibau", parameters)
    assert chosen == IBAU.released().model_copy(update={"rounds": 2})
    assert chosen != IBAU(rounds=2) != IBAU.paper()
    with pytest.raises(BadInput, match=r"named = 'releasd': .*paper, released; did you mean 'released'"):
        sweep("methods: [ibau]\nsettings: {parameters: {named: releasd}}", write)
    with pytest.raises(BadInput, match="it has none"):
        sweep("methods: [rga]\nsettings: {parameters: {named: paper}}", write)
