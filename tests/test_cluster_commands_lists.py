import ast
import shlex
from pathlib import Path

import pytest

from theriac.cluster.cli import run
from theriac.cluster.commands.lists import catalogue
from theriac.datasets.triggers import TRIGGERS
from theriac.search.settings import METHODS


def test_every_attack_is_listed_with_what_it_is(capsys, tmp_path):
    assert run(["list", "attacks", "--data", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = [line for line in out.splitlines()[1:] if line[2] != " "]  # not the rest of a wrapped entry
    assert [line.split()[0] for line in lines] == [*TRIGGERS, "label_rule", "several"]
    assert all(len(line) > 20 for line in lines)


@pytest.mark.parametrize("words", [[], *([("methods", name) for name in METHODS])])
def test_lists_fit_eighty_columns_but_for_commands_to_copy(capsys, tmp_path, words):
    assert run(["list", *words, "--data", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.replace(str(tmp_path), "data").splitlines()
    assert [line for line in lines if len(line) > 80 and not line.startswith('    python -c "')] == []


def test_a_command_to_copy_is_whole_on_its_line(capsys, tmp_path):
    assert run(["list", "datasets", "--data", str(tmp_path)]) == 0
    commands = [line.strip() for line in capsys.readouterr().out.splitlines() if "python -c" in line]
    assert len(commands) == 5
    for command in commands:
        program, flag, code = shlex.split(command)
        assert (program, flag) == ("python", "-c")
        ast.parse(code)


def test_presets_say_what_is_aimed_at():
    presets = dict(catalogue(None)["presets"])
    assert "badnets to class 0, |S_m| = 100" in presets["digits"]


def test_the_sheet(capsys, tmp_path: Path):
    sheet = tmp_path / "sheet.png"
    assert run(["list", "attacks", "--sheet", str(sheet)]) == 0
    out, err = capsys.readouterr()
    assert err.strip() == f"drawn to {sheet}"
    assert "wanet" in out
    assert sheet.stat().st_size > 10_000


def test_the_sheet_of_something_else_is_refused(capsys, tmp_path: Path):
    sheet = tmp_path / "sheet.png"
    for arguments in (["list", "models"], ["list"]):
        assert run([*arguments, "--sheet", str(sheet)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "theriac list attacks --sheet" in err
    assert run(["list", "attacks", "--dataset", "cifar10"]) == 2
    assert "--dataset cifar10 is for a sheet" in capsys.readouterr().err
    assert run(["list", "attacks", "--sheet", str(sheet), "--dataset", "digit"]) == 2
    assert "unknown dataset 'digit'" in capsys.readouterr().err
    assert not sheet.exists()
