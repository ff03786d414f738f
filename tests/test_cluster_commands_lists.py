from pathlib import Path

from theriac.cluster.cli import run
from theriac.cluster.commands.lists import catalogue
from theriac.datasets.triggers import TRIGGERS


def test_every_attack_has_one_line(capsys, tmp_path):
    assert run(["list", "attacks", "--data", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()[1:]
    assert [line.split()[0] for line in lines] == [*TRIGGERS, "label_rule", "several"]
    assert all(20 < len(line) < 130 for line in lines)


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
