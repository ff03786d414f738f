"""Sweep files: what follows from them, what they may say, and what is said about those that are wrong."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

import theriac
from theriac.datasets.triggers import BadNets
from theriac.errors import BadInput
from theriac.search.settings import HealSettings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.sweep.files import Sweep, Task, dump_sweep, load_sweep, sweep_presets
from theriac.search.sweep.scenario import PRESETS, Scenario, Scoring
from theriac.search.sweep.victim_bench import Experiment

ROOT = Path(theriac.__file__).parent
BASE = "scenario: digits\nshares: [0.2, 0.5]\nmethods: [none, ssd, xlf]\n"

COUNTS = {
    "digits": 3 * 11 * (1 + 3 * 2 + 1),  # S_m x shares x (none, PTN x granularities, SSD's grid)
    "quickstart": 2 + 3 * 2 + 1,  # none, EU, PTN, guarded
    "digits-quick": 2 * (1 + 3 * 2 + 1),
    "cifar10-small": 5 * (1 + 3 * 2 + 1),
    "potion-table1": 3 * 11 * (2 + 3 + 1),  # none and eu, PTN, SSD's grid
    "potion-table8": 3 * 11 * (2 + 3 * 3 + 1),  # three s_step
    "potion-table9": 3 * 1 * (2 + 3 + 1),
    "potion-table1-cifar100": 3 * 11 * (2 + 3 + 1),
    "potion-table8-cifar100": 3 * 11 * (2 + 3 * 3 + 1),
    "potion-table9-cifar100": 3 * 1 * (2 + 3 + 1),
    **{f"potion-table{n}": 3 * 11 * (2 + 3) for n in (2, 3, 5, 6)},  # none and eu, PTN
    **{f"potion-table{n}": 3 * 10 * (2 + 3) for n in (4, 7)},  # no one_shot
    "potion-fig6": 1 + 3,  # none, PTN
    **{f"potion-fig{n}": 3 * 11 * 13 for n in (8, 9, 14)},  # S_m x shares x rho
    **{f"potion-fig{n}": 3 * 11 * 8 for n in (15, 16, 17)},
    "ibau-table1": 8 * 6,  # attacks x methods
    "ibau-table2": 8 * 6,
    "ibau-table3": 6,
    "ibau-table4": 2 * 6,  # S_m x methods
    "ibau-table5": 6,
    "ibau-table3-gtsrb": 6,
    "ibau-table5-clean100": 6,
    "ibau-table5-clean2500": 6,
    "ibau-table10": 2,
    "ibau-table11": 2,
    "ibau-fig1": 20 * (1 + 2),  # seeds x (none, I-BAU with and without the hypergradient)
    "ibau-fig2": 5 * (1 + 5),  # seeds x (none, bounds)
    "digits-methods": 2 + 9 + 3,
    "digits-guarded": 18 * 4 * (1 + 3 * 2 + 1 + 1),  # none, PTN, grid, guarded
}


def test_presets_are_those_with_a_count():
    assert set(sweep_presets()) == set(COUNTS)
    assert all(sweep_presets().values())


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_preset_has_its_tasks_once_and_survives_a_dump(name: str, count: int, write):
    sweep = load_sweep(name)
    tasks = sweep.tasks()
    assert (sweep.name, len(tasks), len({task.key for task in tasks})) == (name, count, count)
    again = load_sweep(write(dump_sweep(sweep)))
    assert again == sweep
    assert (again.key, again.tasks()) == (sweep.key, tasks)
    assert sweep.scoring == Scoring(steps=60 if name in ("quickstart", "potion-fig6") else 0, reference=True)


def test_the_wheel_gets_the_presets():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pattern,) = project["tool"]["setuptools"]["package-data"]["theriac.search.sweep"]
    assert len(list((ROOT / "search" / "sweep").glob(pattern))) == len(COUNTS)
    assert len(list((ROOT / "search" / "sweep" / "presets").iterdir())) == len(COUNTS)


def test_digits_take_small_batches_for_batch_importances_alone():
    sizes = {(t.cell.dampening.granularity, t.cell.dampening.batch_size) for t in dampening("digits")}
    assert sizes == {("batch", 16), ("sample", 512)}


def test_tables_of_one_paper_share_tasks():
    one, eight, nine = (set(load_sweep(f"potion-table{n}").tasks()) for n in (1, 8, 9))
    assert nine < one < eight
    assert {t.cell.dampening.granularity for t in dampening("potion-table1")} == {"batch"}
    assert {t.cell.method for t in one if t.cell.search == "grid"} == {"ssd"}


def dampening(name: str) -> list[Any]:
    return [task for task in load_sweep(name).tasks() if task.cell.settings]


def test_key_of_a_task_is_that_of_its_row(tmp_path: Path):
    for task in load_sweep("digits-quick").tasks():
        assert task.key == Experiment(task.scenario, ArtifactStore(tmp_path)).key(task.cell)


def test_order_is_that_of_nested_loops(write):
    path = write(
        "scenario: digits\nseeds: [1, 0]\nmanipulated: [60, 50]\nshares: [0.5, one_shot]\n"
        "methods: [xlf, none]\ngranularities: [batch, sample]\nsearches: [grid, ptn]\n"
    )
    seen = [
        (t.scenario.manipulated, t.scenario.seed, t.cell.share, t.cell.method)
        + ((t.cell.dampening.granularity, t.cell.search) if t.cell.dampening else ())
        for t in load_sweep(path).tasks()
    ]
    dampened = list(itertools.product(["batch", "sample"], ["grid", "ptn"]))
    cells = [*(("xlf", *one) for one in dampened), ("none",)]
    expected = itertools.product([60, 50], [1, 0], [0.5, "one_shot"], cells)
    assert seen == [(*head, *cell) for *head, cell in expected]


def some(values: list[Any]):
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(tuple)


@settings(max_examples=50, deadline=None)
@given(
    axes=st.fixed_dictionaries(
        {
            "manipulated": some([10, 20, 30]),
            "seeds": some([0, 1, 2]),
            "shares": some(["one_shot", 0.1, 1.0]),
            "methods": some(["none", "eu", "ssd", "lf", "xlf"]),
            "granularities": some(["sample", "batch"]),
            "searches": some(["ptn", "grid"]),
        }
    )
)
def test_size_of_the_cross_product(axes: dict[str, Any]):
    tasks = Sweep(name="any", scenario=PRESETS["digits"], **axes).tasks()
    baselines = len({"none", "eu"} & set(axes["methods"]))
    methods = len(axes["methods"]) - baselines
    cells = baselines + methods * len(axes["granularities"]) * len(axes["searches"])
    count = len(axes["manipulated"]) * len(axes["seeds"]) * len(axes["shares"]) * cells
    assert len(tasks) == count == len(set(tasks)) == len({task.key for task in tasks})
    scenarios = [key for key, _ in itertools.groupby(task.scenario.key for task in tasks)]
    assert len(scenarios) == len(set(scenarios))


def test_defaults(write):
    sweep = load_sweep(write("scenario: digits\n"))
    assert sweep.name == "mine"
    assert {task.scenario for task in sweep.tasks()} == {PRESETS["digits"]}
    assert len(sweep.tasks()) == 11 * 4


def test_scenario_on_top_of_a_preset(write):
    given = {"preset": "digits", "seed": 3, "recipe": {"iterations": 7}, "attack": {"trigger": {"size": 2}}}
    scenario = load_sweep(write({"scenario": given})).scenario
    recipe = PRESETS["digits"].recipe.model_copy(update={"iterations": 7})
    assert scenario.recipe == recipe
    assert scenario.attack.trigger == BadNets(size=2)
    assert (scenario.seed, scenario.model.width) == (3, 0.25)


def test_scenario_without_a_preset_takes_what_the_axes_say(write):
    sweep = load_sweep(write("scenario: {seed: 1}\ndatasets: [cifar10, digits]\nmanipulated: [5, 6]\n"))
    scenarios = [Scenario(dataset=d, manipulated=m, seed=1) for d in ("cifar10", "digits") for m in (5, 6)]
    assert list(dict.fromkeys(task.scenario for task in sweep.tasks())) == scenarios


def test_entries_of_lists_take_the_rest_from_the_scenario_unless_they_are_something_else(write):
    given = {
        "scenario": {"preset": "digits", "attack": {"target": 3, "trigger": {"size": 2}}},
        "models": ["resnet9", {"name": "resnet9", "width": 0.5}, "resnet18"],
        "attacks": ["badnets", "sine", {"trigger": {"name": "moving", "size": 1}, "target": 4}],
    }
    sweep = load_sweep(write(given))
    assert sweep.models is not None
    assert sweep.attacks is not None
    assert [(m.name, m.width) for m in sweep.models] == [
        ("resnet9", 0.25),
        ("resnet9", 0.5),
        ("resnet18", 1),
    ]
    assert [(a.trigger.name, a.target) for a in sweep.attacks] == [
        ("badnets", 3),
        ("sine", 3),
        ("moving", 4),
    ]
    assert sweep.attacks[0].trigger == BadNets(size=2)
    assert load_sweep(write(dump_sweep(sweep))) == sweep


def test_exclusions(write):
    path = write(
        BASE + "seeds: [0, 1]\nattacks: [badnets, sine]\nexclude:\n"
        "  - {methods: [ssd, xlf], shares: 0.5}\n"
        "  - {attacks: sine, seeds: 1}\n"
        "  - {granularities: sample, seeds: 1}\n"  # no baseline has a granularity
    )
    seen = {
        (t.scenario.attack.trigger.name, t.scenario.seed, t.cell.share, t.cell.method)
        for t in load_sweep(path).tasks()
    }
    product = itertools.product(["badnets", "sine"], [0, 1], [0.2, 0.5], ["none", "ssd", "xlf"])
    assert seen == {
        (attack, seed, share, method)
        for attack, seed, share, method in product
        if not (method != "none" and (share == 0.5 or seed == 1)) and not (attack == "sine" and seed == 1)
    }


def test_settings_go_to_the_searches_that_have_them(write):
    path = write(BASE + "searches: [ptn, grid]\nsettings: {rho: 0.1, held_out: 7, batch_size: 9}\n")
    common = {"rho": 0.1, "batch_size": 9}
    by_search = {"ptn": HealSettings(**common), "grid": HealSettings(search="grid", held_out=7, batch_size=9)}
    chosen = [task.cell.settings for task in load_sweep(path).tasks() if task.cell.settings]
    assert chosen == [
        by_search[search].model_copy(update={"method": method})
        for _ in (0.2, 0.5)
        for method in ("ssd", "xlf")
        for search in ("ptn", "grid")
    ]


def test_alternative_settings_and_settings_for_some(write):
    path = write(
        "scenario: digits\nshares: [0.2]\nmethods: [none, ssd, lf]\nsearches: [ptn, grid]\n"
        "settings: [{rho: 0.1, b_start: 7}, {b_start: 7}, {rho: 0.3, b_start: 7}]\n"
        "settings_for:\n"
        "  - {when: {methods: lf}, set: {batch_size: 8, b_start: 5}}\n"
        "  - {when: {methods: lf, searches: grid}, set: {batch_size: 4}}\n"
    )
    chosen = [task.cell.settings for task in load_sweep(path).tasks()]
    seen = [
        (s.method, s.search, s.batch_size, *((s.rho, s.b_start) if s.search == "ptn" else ()))
        for s in chosen
        if isinstance(s, HealSettings)
    ]
    assert seen == [
        *(("ssd", "ptn", 512, rho, 7) for rho in (0.1, 0.2, 0.3)),
        ("ssd", "grid", 512),  # once: the three differ in nothing it has
        *(("lf", "ptn", 8, rho, 5) for rho in (0.1, 0.2, 0.3)),
        ("lf", "grid", 4),
    ]


def test_key_depends_on_the_work_alone(write):
    key = load_sweep(write(BASE)).key
    assert load_sweep(write(BASE + "name: other\nabout: nothing\n")).key == key
    assert load_sweep(write(BASE + "seeds: [0]\nsettings: {rho: 0.2}\n")).key == key
    others = ("seeds: [1]", "settings: {rho: 0.3}", "scoring: {steps: 9}", "exclude: [{shares: 0.5}]")
    gate = "scenario: {preset: digits, gate: {asr: 0.1}}\nshares: [0.2, 0.5]\nmethods: [none, ssd, xlf]\n"
    keys = {load_sweep(write(BASE + other)).key for other in others} | {load_sweep(write(gate)).key, key}
    assert len(keys) == len(others) + 2


def test_overrides():
    sweep = load_sweep(
        "digits",
        [
            "seeds=[0, 1]",
            "scenario.recipe.iterations=500",
            "settings.rho=0.1",
            "scenario.attack.trigger=sine",
        ],
    )
    assert sweep.seeds == (0, 1)
    assert sweep.scenario.recipe == PRESETS["digits"].recipe.model_copy(update={"iterations": 500})
    assert sweep.settings == ({"rho": 0.1},)
    assert sweep.scenario.attack.trigger.name == "sine"
    assert sweep.scenario.model == PRESETS["digits"].model
    assert len(sweep.tasks()) == 2 * COUNTS["digits"]
    slow = load_sweep("digits", ["scenario.recipe.learning_rate=1e-3", "scenario.model.name=resnet18"])
    assert (slow.scenario.recipe.learning_rate, slow.scenario.model.width) == (0.001, 1.0)


def test_overrides_that_take_values_away_narrow_the_rules():
    sweep = load_sweep("digits", ["methods=[none, xlf]"])
    assert len(sweep.tasks()) == 3 * 11 * (1 + 2)
    assert [rule.conditions for rule in sweep.exclude] == [
        {"methods": ("xlf",), "searches": ("grid",)},
        {"granularities": ("batch",), "searches": ("grid",)},
    ]
    small = load_sweep("digits", ["granularities=[sample]", "searches=[ptn]"])
    assert (small.exclude, small.settings_for) == ((), ())
    whole = load_sweep("digits-quick", ["exclude=[]"])
    assert len(whole.tasks()) == 2 * (1 + 3 * 2 * 2)
    with pytest.raises(BadInput, match=r"exclude\.0\.methods: 'eu' matches nothing"):
        load_sweep("digits", ["exclude=[{methods: eu}]"])


def test_overrides_drop_rules_that_match_nothing_any_more(write):
    path = write(BASE + "searches: [ptn, grid]\nexclude: [{methods: [none, ssd], searches: grid}]\n")
    assert len(load_sweep(path).tasks()) == 2 * (1 + 1 + 2)
    sweep = load_sweep(path, ["methods=[none, lf]"])  # none is there, but never with a search
    assert (sweep.exclude, len(sweep.tasks())) == ((), 2 * (1 + 2))


def test_scoring_keeps_the_defaults_of_a_sweep(write):
    assert load_sweep(write(BASE + "scoring: {reference: false}\n")).scoring == Scoring(
        steps=0, reference=False
    )


def test_paths_and_names(write, tmp_path: Path):
    path = write(BASE)
    assert load_sweep(str(path)) == load_sweep(path)
    bare = tmp_path / "digits"
    bare.write_text(BASE)
    assert load_sweep(bare).methods == ("none", "ssd", "xlf")  # a Path is a path


def test_built_in_python_the_same_is_refused():
    for wrong in ({"seeds": ()}, {"shares": (0.2, 0.2)}, {"datasets": ("mnist",)}, {"colour": 1}):
        with pytest.raises(ValidationError):
            Sweep(name="x", scenario=PRESETS["digits"], **wrong)
    task = Sweep(name="x", scenario=PRESETS["digits"]).tasks()[0]
    with pytest.raises(ValidationError, match="frozen"):
        task.cell = None  # type: ignore[misc, assignment]
    assert Task.model_validate_json(task.model_dump_json()) == task
