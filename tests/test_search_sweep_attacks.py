"""Attacks in sweep files: every trigger, label rules, several triggers, and rules that name them."""

import pytest
import yaml

from theriac.datasets.triggers import BadNets, Blend, Sine, WaNet
from theriac.errors import BadInput
from theriac.search.sweep.cell_rows import identity
from theriac.search.sweep.files import dump_sweep, load_sweep
from theriac.tests.trigger_table import write_pictures

SEVERAL = {
    "several": [
        {"trigger": "badnets", "target": 8},
        {"trigger": {"name": "blend", "alpha": 0.3}, "target": 1},
    ]
}


@pytest.fixture
def write(tmp_path):
    def write_file(**lines):
        path = tmp_path / "mine.yaml"
        base = {"scenario": "digits", "shares": [0.2], "methods": ["none", "xlf"]}
        path.write_text(yaml.safe_dump({**base, **lines}))
        return path

    return write_file


def test_attacks_of_every_sort(write):
    target = {"preset": "digits", "attack": {"target": 3, "trigger": {"size": 2}}}
    sweep = load_sweep(
        write(scenario=target, attacks=["badnets", "wanet", {"label_rule": "all_to_all"}, SEVERAL])
    )
    assert sweep.attacks is not None
    assert [(one.name, one.one_target) for one in sweep.attacks] == [
        ("badnets", 3),
        ("wanet", 3),
        ("badnets-all-to-all", None),
        ("several", None),
    ]
    assert sweep.attacks[1].trigger == WaNet()
    assert sweep.attacks[2].trigger == BadNets(size=2)
    assert sweep.attacks[3].triggers == (BadNets(), Blend(alpha=0.3))
    path = write()
    path.write_text(dump_sweep(sweep))
    assert load_sweep(path) == sweep


def test_one_trigger_in_place_of_the_several_of_the_scenario(write):
    scenario = {"preset": "digits", "attack": {**SEVERAL, "drawn_from": "non_target"}}
    sweep = load_sweep(write(scenario=scenario, attacks=["sine", {"target": 4}]))
    assert sweep.attacks is not None
    assert [one.model_dump(exclude={"trigger"}) for one in sweep.attacks] == [
        {"target": 0, "drawn_from": "non_target"},
        {"target": 4, "drawn_from": "non_target"},
    ]
    assert sweep.attacks[0].trigger == Sine()
    cyclic = {"preset": "digits", "attack": {"label_rule": "all_to_all"}}
    sweep = load_sweep(write(scenario=cyclic, attacks=["sine", {"target": 4}]))
    assert [one.name for one in sweep.attacks or ()] == ["sine-all-to-all", "badnets"]


def names(sweep):
    return {task.scenario.attack.name for task in sweep.tasks()}


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("several", {"badnets", "badnets-all-to-all"}),
        ("badnets-all-to-all", {"badnets", "several"}),
        ("badnets", {"several"}),
        ({"trigger": "badnets", "label_rule": "one_target"}, {"badnets-all-to-all", "several"}),
        ({"name": "several"}, {"badnets", "badnets-all-to-all"}),
    ],
)
def test_rules_name_attacks(write, pattern, left):
    path = write(attacks=["badnets", {"label_rule": "all_to_all"}, SEVERAL], exclude=[{"attacks": pattern}])
    assert names(load_sweep(path)) == left
    assert names(load_sweep(path, ["seeds=[1]"])) == left


def test_rows_say_which_attack_it_was(write):
    sweep = load_sweep(write(attacks=["badnets", {"label_rule": "all_to_all"}, SEVERAL], methods=["none"]))
    rows = [identity(task.scenario, task.cell) for task in sweep.tasks()]
    assert [(row["attack"], row["target"]) for row in rows] == [
        ("badnets", 0),
        ("badnets-all-to-all", None),
        ("several", None),
    ]
    assert len({row["key"] for row in rows}) == 3


def test_pictures_are_found_from_where_the_command_runs(write, tmp_path, monkeypatch):
    write_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    sweep = load_sweep(write(attacks=[{"trigger": {"name": "additive", "file": "dim.png"}}]))
    trigger = sweep.tasks()[0].scenario.attack.trigger
    assert trigger.model_dump()["file"] == str(tmp_path / "dim.png")
    path = write()
    path.write_text(dump_sweep(sweep))
    (tmp_path / "dim.png").unlink()
    assert load_sweep(path) == sweep, "what was computed can be read where the picture is not"


@pytest.mark.parametrize(
    ("attacks", "message"),
    [
        ([{"trigger": {"name": "additive", "file": "gone.png"}}], r"picture .*gone\.png: No such file"),
        (["additive"], r"attacks\.0\.trigger\.additive\.file is missing|file"),
        ([{"several": []}], r"several holds no trigger; give two or more, or use trigger and target"),
        (
            [{"several": [{"trigger": "badnets", "target": one} for one in (1, 2)]}],
            r"several\.1: the trigger badnets is there already, .* target 1; give each trigger once",
        ),
        ([{"several": ["badnet", "sine"]}], r"attacks\.0\.several\.0: unknown trigger 'badnet'; .*'badnets'"),
        (
            [{"several": [{"trigger": "sine", "aim": 3}]}],
            r"'attacks\.0\.several\.0\.aim'; the valid ones .* are trigger, target",
        ),
        (
            [{"several": [{"trigger": {"name": "sine", "size": 3}, "target": 3}]}],
            r"'attacks\.0\.several\.0\.trigger\.size'; the valid ones",
        ),
        ([{"several": [{"trigger": "sine", "target": 3}]}], "several holds one trigger; give two or more"),
        ([{"label_rule": "all_to_all", "target": 3}], "neither one target nor several"),
        ([{"label_rule": "cycle"}], r"attacks\.0\.label_rule = 'cycle'"),
        ([{**SEVERAL, "target": 3}], "leave trigger and target out"),
    ],
)
def test_bad_attacks(write, attacks, message):
    with pytest.raises(BadInput, match=message) as error:
        load_sweep(write(attacks=attacks))
    assert "\n" not in str(error.value)
