"""What is said about sweep files, overrides and names that are wrong."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from theriac.errors import BadInput
from theriac.search.sweep.files import load_sweep

BASE = "scenario: digits\nshares: [0.2, 0.5]\nmethods: [none, ssd, xlf]\n"


WRONG = [
    # unknown keys, at every depth
    ("sceanrio: 1", r"unknown key 'sceanrio'; the valid ones are name, .*did you mean 'scenario'"),
    (
        "scenario: {preset: digits, recipe: {iteratons: 5}}",
        r"'scenario\.recipe\.iteratons'; .*'iterations'\?",
    ),
    (
        "scenario: {preset: digits, size: 5}",
        r"'scenario\.size'; the valid ones in scenario are dataset, .*preset",
    ),
    (
        "scenario: {preset: digits, attack: {trigger: {sise: 2}}}",
        r"'scenario\.attack\.trigger\.sise'.*'size'\?",
    ),
    ("models: [{nam: resnet9}]", r"'models\.0\.nam'; .* are name, width; did you mean 'name'"),
    ("attacks: [{trigger: sine, size: 2}]", r"'attacks\.0\.size'; the valid ones in attacks\.0 are trigger"),
    ("scoring: {step: 2}", r"'scoring\.step'; .* are steps, reference; did you mean 'steps'"),
    ("exclude: [{method: ssd}]", r"'exclude\.0\.method'; .*did you mean 'methods'"),
    ("settings: {roh: 0.1}", r"'settings\.roh'; the valid ones in settings are .*rho, .*did you mean 'rho'"),
    ("settings_for: [{when: {method: lf}, set: {}}]", r"'settings_for\.0\.when\.method'"),
    ("settings_for: [{when: {methods: ssd}, set: {roh: 1}}]", r"'settings_for\.0\.set\.roh'"),
    ("1: 2", r"unknown key '1'"),
    # names
    ("scenario: digit", r"unknown scenario preset 'digit'; choose one of digits, .*did you mean 'digits'"),
    ("scenario: [1]", r"scenario = \[1\]: give the name of a scenario preset \(digits, "),
    ("scenario: null", r"scenario = None: give the name"),
    ("scenario: {seed: 1}", r"scenario\.dataset is missing"),
    ("datasets: [cifar01]", r"datasets\.0 = 'cifar01': unknown dataset; .*did you mean 'cifar10'"),
    ("models: [resnet99]", r"models\.0 = 'resnet99': unknown model; .*timm\.list_models\(\); did you mean"),
    ("attacks: [badnet]", r"attacks\.0: unknown trigger 'badnet'; .* moving, .*; did you mean 'badnets'"),
    ("scenario: {preset: digits, attack: blond}", r"scenario\.attack: unknown trigger 'blond'"),
    (
        "methods: [xfl]",
        r"methods\.0 = 'xfl': Input should be 'none', 'eu', .*'ssd', 'lf' or 'xlf'; did you mean 'xlf'",
    ),
    # values
    (
        "scenario: {preset: digits, recipe: {iterations: 0}}",
        r"scenario\.recipe\.iterations = 0: .*equal to 1",
    ),
    (
        "scenario: {preset: digits, attack: {trigger: {size: 0}}}",
        r"scenario\.attack\.trigger\.size = 0: .*to 1",
    ),
    ("models: [{width: 99}]", r"models\.0\.width = 99: .*equal to 16"),
    ("shares: [0.2, 1.5]", r"shares\.1 = 1\.5: .*less than or equal to 1 or input should be 'one_shot'"),
    ("shares: [.nan]", r"shares\.0 = nan: give a finite number"),
    ("manipulated: [0]", r"manipulated\.0 = 0: .*equal to 1"),
    ("seeds: [true]", r"seeds\.0 = True: give a number or a name"),
    ("seeds: 3", r"seeds = 3: give a list, such as"),
    ("seeds: []", r"seeds = \[\]: the list is empty"),
    ("shares: [0.2, one_shot, 0.2]", r"shares = .*: 0\.2 is there twice"),
    ("models: [resnet9, {name: resnet9}]", r"models = .*'name': 'resnet9', 'width': 0\.25.* is there twice"),
    ("settings: {rho: 2}", r"settings\.rho = 2: .*less than 1"),
    ("settings: [{}, {alphas: [0]}]", r"settings\.1\.alphas = \[0\]: give finite numbers above 0"),
    ("settings: {search: grid}", r"settings\.search: this is an axis of the sweep; list it in searches"),
    ("settings: [{rho: 0.2}, {rho: 0.20}]", r"is there twice"),
    ("scoring: {steps: -1}", r"scoring\.steps = -1: .*equal to 0"),
    (
        f"seeds: {list(range(200))}\nmanipulated: {list(range(1, 200))}",
        r"make up to 238800 tasks; at most 20000 fit",
    ),
    (
        f"seeds: {list(range(2000))}\nexclude: [{', '.join(['{seeds: 1}'] * 100)}]",
        r"12000 tasks under 100 rules",
    ),
    (f"seeds: {list(range(3000))}", r"seeds = .*: 3000 values; give at most 2000"),
    ("models: [vit_tiny_patch16_224.augreg_in21k]", r"give the architecture alone, 'vit_tiny_patch16_224'"),
    # rules
    ("exclude: [{shares: 0.3}]", r"exclude\.0\.shares: 0\.3 matches nothing; the sweep has 0\.2, 0\.5"),
    (
        "exclude: [{methods: [ssd, eu]}]",
        r"exclude\.0\.methods: 'eu' matches nothing; the sweep has none, ssd, xlf",
    ),
    ("exclude: [{methods: none, searches: ptn}]", r"exclude\.0: matches nothing, no task has all of it"),
    ("exclude: [{}]", r"exclude\.0 = \{\}: give at least one axis"),
    ("exclude: [{methods: []}]", r"exclude\.0 = .*: give at least one axis, and at least one value"),
    ("exclude: [{shares: [0.2, 0.5]}]", r"every task is excluded"),
    ("settings: {held_out: 5}", r"settings\.held_out: no task uses it \(searches: ptn\)"),
    ("methods: [none]\nsettings: {rho: 0.1}", r"settings\.rho: no task uses it \(searches: none\)"),
    (
        "settings_for: [{when: {methods: lf}, set: {}}]",
        r"settings_for\.0\.when\.methods: 'lf' matches nothing",
    ),
    (
        "settings_for: [{when: {methods: none}, set: {}}]",
        r"when\.methods: 'none' matches nothing; .*ssd, xlf",
    ),
    ("settings_for: [{set: {}}]", r"settings_for\.0\.when is missing"),
]


@pytest.mark.parametrize(("lines", "message"), WRONG, ids=[lines[:40] for lines, _ in WRONG])
def test_wrong_files(write, lines: str, message: str):
    path = write({**yaml.safe_load(BASE), **yaml.safe_load(lines)})
    with pytest.raises(BadInput, match=message) as error:
        load_sweep(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


BROKEN = [
    ("shares: [0.1\nmethods: [xlf]", r"line 2: expected ',' or ']'"),
    ("scenario: digits\nseeds: [1]\nseeds: [2]", r"line 3: the key 'seeds' is in line 2 already"),
    (
        "scenario:\n  recipe:\n    batch_size: 1\n    batch_size: 2",
        r"line 4: the key 'batch_size' is in line 3",
    ),
    ("name: !!python/object:os.system x", r"line 1: could not determine a constructor"),
    ("a: &a [*a]", r"line 1: the node holds itself"),
    ("about: 2020-13-45", r"month must be in 1\.\.12"),
    ("- 1", r"a sweep is a mapping"),
    (
        "a: &a [x]\n" + "".join(f"{c}: &{c} [{', '.join([f'*{b}'] * 9)}]\n" for b, c in pairwise("abcdefgh")),
        r"line \d: more than 50000 values",
    ),
    (
        "a0: &a0 {b: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9)),
        r"line \d: more than 50000 values",
    ),
    (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 99)),
        r"line \d+: more than .* 32 levels",
    ),
    ("a: " + "[" * 1000, r"line 1: more than 32 levels"),
    ("".join(" " * n + "a:\n" for n in range(99)), r"line 32: more than 32 levels"),
    ("seeds: [0x" + "f" * 9999 + "]", r"seeds\.0 is a whole number of more than 64 bits"),
    ("seeds: [" + "9" * 9999 + "]", r"a whole number of thousands of digits"),
    ("seeds: [1" + ":59" * 99 + "]", r"line 1: YAML reads 1:59:59.*\.\.\. in base 60"),
    ("a: b\0", r"unacceptable character #x0000"),
    ("a: 1\n\tb: 2", r"line 2: found character '\\t'"),
    ("a: 1\n---\nb: 2", r"line 2: found another document"),
    ("about: 2020-01-01", r"about is a YAML date, .*put it in quotes"),
    ("about: !!binary aGk=", r"about is a YAML bytes"),
    ("about: !!set {a, b}", r"about is a YAML set"),
    ("[1, 2]: 3", r"line 1: found unhashable key"),
    ("#" * (1 << 18), r"262144 characters of YAML, and at most 131072"),
    ("", r"a sweep is a mapping"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN, ids=[text[:40] for text, _ in BROKEN])
def test_broken_yaml(write, text: str, message: str):
    with pytest.raises(BadInput, match=rf"mine\.yaml: {message}"):
        load_sweep(write(text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "give key=value"),
        ("seeds=", "give key=value"),
        (".a=1", "give key=value"),
        ("seeds=[1", r"--set seeds=\[1: line 1"),
        ("seds=[1]", "unknown key 'seds'; .*did you mean 'seeds'"),
        ("scenario.recipe.iteratons=5", r"'scenario\.recipe\.iteratons'"),
        ("scenario.recipe.iterations=-5", r"scenario\.recipe\.iterations = -5: .*equal to 1"),
        ("scenario.preset=x", "unknown scenario preset 'x'"),
        ("shares.0=0.3", r"shares is \[0\.2, 0\.5\], which has no '0'; give it whole: --set shares="),
        ("settings.roh=1", r"'settings\.roh'"),
    ],
)
def test_wrong_overrides(override: str, message: str):
    with pytest.raises(BadInput, match=message):
        load_sweep("digits-quick", [override])


def test_sources_that_are_not_there(tmp_path: Path):
    with pytest.raises(
        BadInput, match=r"unknown sweep preset 'digit'; choose one of .*did you mean 'digits'"
    ):
        load_sweep("digit")
    for path in (str(tmp_path / "no.yaml"), "no.yml", tmp_path / "no", tmp_path):
        with pytest.raises(
            BadInput, match=r"sweep file .*; give the path of a YAML file, or a preset: .*digits"
        ):
            load_sweep(path)
    (tmp_path / "latin.yaml").write_bytes(b"about: \xe9\n")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_sweep(tmp_path / "latin.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(BadInput, match=r"pipe\.yaml: it is a named pipe, not a regular file; give the path"):
        load_sweep(tmp_path / "pipe.yaml")
    with pytest.raises(BadInput, match="the folder that ~nobody-here stands for is not known"):
        load_sweep("~nobody-here/sweep.yaml")


def test_a_byte_order_mark_is_no_harm(tmp_path: Path):
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load_sweep(tmp_path / "bom.yaml").shares == (0.2, 0.5)


def test_aliases_and_merges_are_read(write):
    sweep = load_sweep(write(BASE + "settings: [&a {rho: 0.1}, {<<: *a, max_steps: 9}]"))
    assert sweep.settings == ({"rho": 0.1}, {"rho": 0.1, "max_steps": 9})


def test_endless_overrides_are_refused():
    with pytest.raises(BadInput, match=r"--set a\.a.*: 3000 levels, and at most 32"):
        load_sweep("digits-quick", [".".join("a" * 3000) + "=1"])
    with pytest.raises(BadInput, match="more than 32 levels") as error:
        load_sweep("digits-quick", ["a=" + "[" * 3000])
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"seeds=[{2**63}]", rf"seeds\.0 = {2**63}: Input should be less than {2**63}"),
        (f"scenario.seed={2**63}", rf"scenario\.seed = {2**63}"),
        (f"manipulated=[{2**64}]", rf"manipulated=\[{2**64}\]: 0 is a whole number of more than 64 bits"),
        (
            f"settings.max_steps={2**63}",
            rf"settings\.max_steps = {2**63}: Input should be less than or equal to {2**31}",
        ),
        ("settings.b_start='inf'", r"settings\.b_start = .*finite number"),
        ("settings.b_start='nan'", r"settings\.b_start = "),
    ],
)
def test_numbers_that_no_row_can_hold_are_refused_before_any_work(override: str, message: str):
    with pytest.raises(BadInput, match=message):
        load_sweep("digits-quick", [override])


def test_the_largest_seed_is_taken():
    assert load_sweep("digits-quick", [f"seeds=[{2**63 - 1}]"]).tasks()[0].scenario.seed == 2**63 - 1


@pytest.mark.parametrize(
    "pair",
    [
        ("{parameters: {learning_rate: 1e-3}}", "{parameters: {learning_rate: 0.001}}"),
        ("{parameters: {learning_rate: 1}}", "{parameters: {learning_rate: 1.0}}"),
        ("{rho: 1e-1}", "{rho: 0.1}"),
        ("{rho: -0.0}", "{rho: 0}"),
    ],
)
def test_equal_settings_are_one_cell(pair: tuple[str, str], tmp_path: Path):
    file = tmp_path / "s.yaml"
    keys = []
    for settings in (*pair, f"[{', '.join(pair)}]"):
        file.write_text(
            f"scenario: digits\nshares: [0.2]\nmethods: [cf]\nsearches: [fixed]\nsettings: {settings}\n"
        )
        keys.append([task.key for task in load_sweep(file).tasks()])
    assert keys[0] == keys[1] == keys[2]
    assert len(keys[0]) == 1
