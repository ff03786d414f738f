"""What the command line says: names that are escaped, and what is wrong in one line with a suggestion."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from theriac.cluster.cli import run
from theriac.search.store.results import ResultsStore

HEAL = ["heal", "--weights", "a.pt", "--forget", "b", "--retain", "c"]
LAUNCH = [sys.executable, "-c", "from theriac.cluster.cli import main; main()"]

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with one finished search."""
    store = ResultsStore(tmp_path / "results")
    row = {
        "scenario": "abc",
        "dataset": "digits",
        "key": "1",
        "method": "eu",
        "status": "done",
        "damage": -1.0,
    }
    store.append("searches", [{**row, "seed": 0}])
    return store.directory


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["heal", "--weigths", "a.pt", "--retain", "c"], ["unknown option --weigths", "mean '--weights'?"]),
        ([*HEAL, "--", "--seed", "3"], ["--seed stands after --, which ends the options; leave -- out"]),
        ([*HEAL, "--width", "nan"], ["--width nan", "finite number"]),
        ([*HEAL, "--mean", "nan"], ["--mean nan", "finite number"]),
        ([*HEAL, "--std", "inf"], ["--std inf", "finite number"]),
        (["heal", "--weights", "", "--forget", "b", "--retain", "c"], ["--weights is empty; give a file"]),
        (["heal", "--weights=a", "--forget= ", "--retain", "c"], ["--forget is empty; give a file"]),
        ([*HEAL, "--classes="], ["--classes is empty; give a file"]),
        (["heal", "--forgett=b"], ["unknown option --forgett", "mean '--forget'?"]),
        (["sweep", "--dryrun"], ["unknown option --dryrun", "mean '--dry-run'?"]),
        (["list", "--zzz"], ["unknown option --zzz", "--help"]),
        ([*HEAL, "--method", "xfl"], ["--method xfl", "mean 'xlf'?"]),
        ([*HEAL, "--search", "grdi"], ["--search grdi", "mean 'grid'?"]),
        ([*HEAL, "--method", "ft"], ["the method ft needs images", "give some as --clean"]),
        (["plot", "x", "--to", "fig.pdf"], ["--to fig.pdf", "give a folder", "--to fig"]),
        (["sweep", "quickstart", "--set", "methods=[xfl]", "--dry-run"], ["methods", "mean 'xlf'?"]),
        (["sweep", "digits", "--set", "manipulated=[5000]", "--dry-run"], ["5000", "less than the 1437"]),
        (["plan", "digits", "--set", "manipulated=[5000]"], ["5000", "less than the 1437"]),
        (
            ["sweep", "digits", "--set", "scenario.attack.target=10", "--dry-run"],
            ["target class 10", "0 to 9"],
        ),
        (["sweep", "digits", "--set", "scenario.held_back.clean=360", "--dry-run"], ["held_back", "of 360"]),
        (["sweep", "digits", "--set", f"seeds=[{2**63}]", "--dry-run"], [str(2**63), "less than"]),
    ],
)
def test_what_is_wrong_is_named_first_with_a_suggestion(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(word in err for word in words), err


ESCAPES = "\x1b[31mred\nline\u202e\x9b2J"
SHOWN = r"\x1b[31mred\nline\u202e\x9b2J"


def clean(text: str) -> bool:
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


@pytest.mark.parametrize("name", ["terminal", "markdown", "latex"])
def test_names_in_tables_cannot_reach_the_terminal_raw(name: str, results: Path, capsys: Captured) -> None:
    row = {"scenario": "abc", "dataset": ESCAPES, "key": "9", "method": "xlf", "status": "failed", "seed": 0}
    ResultsStore(results).append("searches", [{**row, "error_class": "X", "error_message": ESCAPES}])
    assert run(["table", str(results), "--format", name]) == 0
    out, err = capsys.readouterr()
    assert clean(out)
    assert "red" in out
    assert err == ""


def test_csv_keeps_the_data_and_holds_no_formulas(results: Path, capsys: Captured) -> None:
    row = {"scenario": "abc", "dataset": ESCAPES, "key": "9", "method": "xlf", "status": "failed", "seed": 0}
    ResultsStore(results).append("searches", [{**row, "error_class": "=1+1", "error_message": "-x"}])
    assert run(["table", str(results), "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out, newline="")))
    last = next(row for row in rows if row["dataset"] != "digits")
    assert last["dataset"] == ESCAPES
    assert not [value for row in rows for value in row.values() if value[:1] in ("=", "@", "+")]
    assert {row["damage"] for row in rows} >= {"-1.0"}


def test_names_in_errors_logs_and_warnings_are_escaped_on_one_line(tmp_path: Path) -> None:
    place = tmp_path / ESCAPES
    (place / "searches").mkdir(parents=True)
    (place / "searches" / "part-1.parquet").write_bytes(b"torn")
    done = subprocess.run([*LAUNCH, "table", str(place)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert clean(done.stderr)
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["warning", "error"]
    assert all(SHOWN in line for line in done.stderr.splitlines())


def test_names_in_a_sweep_are_escaped_and_read_back(tmp_path: Path, capsys: Captured) -> None:
    from theriac.search.sweep.files import dump_sweep, load_sweep

    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text(json.dumps({"scenario": "digits", "name": ESCAPES}))
    assert run(["sweep", str(first), "--dry-run", "--results", str(tmp_path / ESCAPES)]) == 0
    out = capsys.readouterr().out
    assert clean(out)
    second.write_text(out)
    assert load_sweep(second).name == ESCAPES
    assert dump_sweep(load_sweep(second)) == dump_sweep(load_sweep(first))


def test_names_in_lists_and_checks_are_escaped(tmp_path: Path, capsys: Captured) -> None:
    assert run(["list", "datasets", "--data", str(tmp_path / ESCAPES)]) == 0
    assert SHOWN in capsys.readouterr().out
    run(["doctor", "--data", str(tmp_path / ESCAPES)])
    out = capsys.readouterr().out
    assert SHOWN in out
    assert clean(out)


def test_python_warnings_are_said_as_one_line() -> None:
    from theriac.cluster.commands.messages import say_warning

    said: list[str] = []
    say_warning(said.append)(UserWarning("odd; give even"), UserWarning, "file.py", 3)
    assert said == ["warning: odd; give even"]
