"""Code of users' own: only what was handed over is imported, and another version is never taken for it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch

from theriac.datasets import own_code
from theriac.datasets.own_code import (
    OwnCode,
    code_digests,
    is_own,
    own_part,
    shipped_code,
    take_code,
    use_code,
)
from theriac.datasets.sources import labels_of, load_dataset
from theriac.datasets.triggers import OwnTrigger, parse_trigger
from theriac.errors import BadInput
from theriac.search.sweep import load_sweep
from theriac.search.sweep.data_checks import check_data
from theriac.search.sweep.scenario import PRESETS, Scenario
from theriac.tests.own_parts import CODE, forget, in_use, written
from theriac.unlearning.models import ModelSpec, create_model

SWEEP = """
scenario:
  preset: digits
  dataset: "my_parts:few"
  model: {name: "my_parts:net"}
  attack: {trigger: {name: "my_parts:Corner", size: 3}}
methods: [none]
"""


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[str]:
    with in_use(tmp_path) as module:
        yield module


def test_a_sweep_names_parts_of_ones_own(mine: str, tmp_path: Path) -> None:
    sweep = load_sweep(written(tmp_path, "sweep.yaml", SWEEP).rename(tmp_path / "sweep.yaml"))
    check_data(sweep, None)
    scenario = sweep.tasks()[0].scenario
    assert (scenario.dataset, scenario.model.name, scenario.attack.name) == (
        "my_parts:few",
        "my_parts:net",
        "my_parts:Corner",
    )
    assert dict(scenario.code) == {"my_parts": OwnCode.read(tmp_path / "my_parts.py").digest}


def test_a_trigger_of_ones_own_takes_its_settings(mine: str) -> None:
    trigger = parse_trigger({"name": "my_parts:Corner", "size": 1})
    images = trigger(torch.zeros(2, 1, 4, 4), torch.arange(2))
    assert images.sum() == 2
    assert trigger.model_dump() == {"name": "my_parts:Corner", "size": 1}
    assert trigger == parse_trigger(trigger.model_dump())
    assert trigger != parse_trigger("my_parts:Corner")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "my_parts:Corner", "size": "wide"}, "trigger my_parts:Corner: size = 'wide'"),
        ({"name": "my_parts:Corner", "sise": 2}, "unknown setting 'sise'.*did you mean 'size'"),
        ({"name": "my_parts:Corne"}, "has no 'Corne'.*did you mean 'Corner'"),
        ({"name": "my_parts:net"}, "is no trigger; make it a subclass"),
        ({"name": "others:Corner"}, "--code others.py"),
    ],
)
def test_a_trigger_that_cannot_be_made_says_why(mine: str, given: dict[str, str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        parse_trigger(given)(torch.zeros(1, 1, 8, 8), torch.arange(1))


def test_a_model_and_a_dataset_of_ones_own(mine: str) -> None:
    model = create_model(ModelSpec(name="my_parts:net"), num_classes=5, shape=(1, 8, 8), seed=3)
    again = create_model(ModelSpec(name="my_parts:net"), num_classes=5, shape=(1, 8, 8), seed=3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    data, counts = load_dataset("my_parts:few"), labels_of("my_parts:few")
    assert data.shape == counts.shape
    assert (len(data.test), len(data.classes)) == (counts.test, counts.classes)


def test_what_is_no_part_is_refused(mine: str) -> None:
    with pytest.raises(BadInput, match=r"it gave int; make it return an nn.Module"):
        create_model(ModelSpec(name="my_parts:nothing"), num_classes=5, shape=(1, 8, 8))
    with pytest.raises(BadInput, match=r"width 0.5: it has none"):
        create_model(ModelSpec(name="my_parts:net", width=0.5), num_classes=5, shape=(1, 8, 8))
    with pytest.raises(BadInput, match="it gave int; make it return an ImageDataset"):
        load_dataset("my_parts:nothing")


def test_what_fails_in_a_part_is_a_line(mine: str) -> None:
    with pytest.raises(BadInput, match=r"'my_parts:failing' of your own: KeyError: 'missing'; correct it"):
        create_model(ModelSpec(name="my_parts:failing"), num_classes=5, shape=(1, 8, 8))
    with pytest.raises(BadInput, match="KeyError"):
        load_dataset("my_parts:failing")


def test_no_text_imports_anything_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched = tmp_path / "touched"
    written(tmp_path, "sly", f"open({str(touched)!r}, 'w').close()\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("sly:net", "os:system", ":net", "sly:"):
        with pytest.raises(BadInput, match="not in use"):
            create_model(ModelSpec(name=name), num_classes=2, shape=(1, 8, 8))
    assert not touched.exists()


def test_another_version_has_other_keys_and_is_refused_where_the_sweep_began_with_this_one(
    tmp_path: Path,
) -> None:
    tree = {**PRESETS["digits"].model_dump(), "model": {"name": "my_parts:net"}}
    with in_use(tmp_path):
        first = Scenario.model_validate(tree)
    with in_use(tmp_path, code=CODE.replace("padding=1", "padding =1")):
        second = Scenario.model_validate(tree)
        assert second.key != first.key
        assert second.clean_key != first.clean_key
        with pytest.raises(ValueError, match="not what it was where the sweep began"):
            Scenario.model_validate_json(first.model_dump_json())
    read = Scenario.model_validate_json(first.model_dump_json())  # where the code is not, results can be read
    assert read.key == first.key


def test_the_trigger_s_code_is_no_part_of_the_clean_model(mine: str) -> None:
    tree = {**PRESETS["digits"].model_dump(), "attack": {"trigger": {"name": "my_parts:Corner"}}}
    scenario = Scenario.model_validate(tree)
    assert scenario.code
    assert scenario.clean_key == PRESETS["digits"].clean_key


def test_scenarios_without_own_code_keep_their_keys() -> None:
    assert "code" not in PRESETS["digits"].model_dump()


def test_another_process_takes_the_code_from_what_is_shipped(mine: str, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from theriac.datasets.own_code import own_part, take_code\n"
        "take_code(sys.stdin.read())\n"
        "print(own_part('my_parts:net', 'models')(3, (1, 4, 4))[-1].out_features)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=shipped_code(),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.split() == ["3"]


def test_a_package_is_taken_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_code, "_USED", {})
    package = tmp_path / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text("from . import other\nfive = other.five\n")
    (package / "other.py").write_text("five = 5\n")
    use_code(package)
    assert own_part("my_package.inner:five", "models") == 5
    shipped = shipped_code()
    forget("my_package")
    monkeypatch.setattr(own_code, "_USED", {})
    take_code(shipped)
    assert own_part("my_package.inner:five", "models") == 5
    assert len(json.loads(shipped)[0]["files"]) == 3
    forget("my_package")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("json.py", "x = 1", "another module is called so; rename yours"),
        ("broken.py", "x = (", "SyntaxError.*correct it"),
        ("failing.py", "raise ValueError('no luck')", "ValueError: no luck; correct it"),
        ("leaving.py", "raise SystemExit(3)", "SystemExit: 3; correct it"),
        ("alone.py", "import not_handed_over", "No module named 'not_handed_over'; correct it"),
        ("parts.txt", "x = 1", "no file of Python"),
        ("binary.py", "\udcff", "UTF-8|utf-8|text"),
    ],
)
def test_code_that_cannot_be_used_says_why(
    name: str, text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_code, "_USED", {})
    file = tmp_path / name
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(BadInput, match=said):
        use_code(file)
    assert not own_code._USED


def test_missing_files_and_plain_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"holds no __init__.py"):
        use_code(tmp_path)
    with pytest.raises(BadInput, match=r"missing.py"):
        use_code(tmp_path / "missing.py")


def test_changed_code_needs_a_new_python(mine: str, tmp_path: Path) -> None:
    file = tmp_path / "my_parts.py"
    use_code(file)
    file.write_text(CODE + "\n# changed\n")
    with pytest.raises(BadInput, match="start Python anew"):
        use_code(file)


def test_installed_packages_declare_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, "declared")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint(name="tiny", value="declared:net", group="theriac.models")
    monkeypatch.setattr(own_code, "own_names", lambda group: {"tiny": entry} if group == "models" else {})
    assert is_own("tiny", "models")
    assert not is_own("tiny", "triggers")
    model = create_model(ModelSpec(name="tiny"), num_classes=5, shape=(1, 8, 8))
    assert sum(1 for _ in model.parameters()) == 4
    assert code_digests([("tiny", "models")]) == {"declared": OwnCode.read(tmp_path / "declared.py").digest}
    forget("declared")


def test_results_can_be_read_where_the_code_is_not() -> None:
    trigger = parse_trigger({"name": "elsewhere:Corner", "size": 3})
    assert isinstance(trigger, OwnTrigger)
    assert trigger.model_dump() == {"name": "elsewhere:Corner", "size": 3}
