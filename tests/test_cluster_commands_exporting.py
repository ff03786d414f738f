"""`theriac export` on the command line: one line for what was written, and for what cannot be."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from theriac.cluster.cli import run
from theriac.tests.exported_results import ptn, stored, tuned

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with results, of which some have trials, and with what is in the way."""
    monkeypatch.chdir(tmp_path)
    stored(tmp_path / "res", tuned(), ptn())
    stored(tmp_path / "walks", ptn())
    (tmp_path / "empty").mkdir()
    (tmp_path / "there").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("optuna s.db", "s.db: 1 study, 4 trials; open it with: optuna-dashboard sqlite:///s.db"),
        ("csv out", "out: runs.csv (1 row), searches.csv (2 rows), steps.csv (5 rows)"),
        ("duckdb r.db", "r.db: 3 tables (runs 1, searches 2, steps 5), and the views lines and trials"),
    ],
)
def test_it_says_what_it_wrote(place: Path, capsys: Captured, words: str, said: str) -> None:
    to, out = words.split()
    assert run(["export", "res", "--to", to, "--out", out]) == 0
    assert capsys.readouterr() == (f"{said}\n", "")
    assert run(["export", "res", "walks", "--to", to, "--out", out]) == 2
    there = "out/runs.csv" if to == "csv" else out
    assert f"error: {there} is there already" in capsys.readouterr().err
    assert run(["export", "res", "walks", "--to", to, "--out", out, "--force"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("res --to optuna", ["--out"]),
        ("res --out x", ["--to"]),
        ("--to optuna --out x", ["RESULTS"]),
        ("res --to excel --out x", ["excel", "optuna", "csv", "duckdb", "huggingface-card"]),
        ("nowhere --to optuna --out x", ["nowhere", "does not exist"]),
        ("nowhere --to huggingface-card --out x.md", ["nowhere", "healing.json", "theriac heal"]),
        ("empty --to optuna --out x", ["empty holds no finished searches"]),
        ("empty --to csv --out x", ["empty holds no finished searches"]),
        ("empty --to duckdb --out x", ["empty holds no finished searches"]),
        ("walks --to optuna --out x", ["walks holds no trials", "grid, tpe, fixed", "ptn"]),
        ("res --to optuna --out no/x", ["no/x", "no folder no"]),
        ("res --to csv --out no/x", ["no/x", "no folder no"]),
        ("res --to optuna --out there", ["there is there already", "--force"]),
        ("res --to optuna --out empty --force", ["empty is a folder", "empty/studies.db"]),
        ("res --to duckdb --out empty --force", ["empty is a folder", "empty/results.duckdb"]),
        ("res --to csv --out there --force", ["there is a file", "give a folder"]),
        ("res --to optuna --out pipe --force", ["pipe is no ordinary file"]),
        ("res --to duckdb --out res/searches/x.db", ["res/searches", "only results may be"]),
        ("res --to csv --out res/steps", ["res/steps", "only results may be"]),
        ("res --to csv --out s3://b/x", ["s3://b/x", "URI"]),
    ],
)
def test_what_cannot_be_is_one_line(place: Path, capsys: Captured, words: str, said: list[str]) -> None:
    before = sorted(place.rglob("*"))
    assert run(["export", *words.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert all(one in err for one in said), err
    assert sorted(place.rglob("*")) == before
    assert (place / "there").read_text() == "mine"


def test_a_failure_in_the_middle_leaves_nothing(
    place: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(place.iterdir())
    monkeypatch.setattr("os.replace", full)
    for to in ("optuna", "csv", "duckdb"):
        assert run(["export", "res", "--to", to, "--out", f"x-{to}"]) == 2
        err = capsys.readouterr().err
        assert err == (
            f"error: cannot write x-{to} (No space left on device); free some space, or name a place that "
            "you may write to\n"
        )
    assert sorted(place.iterdir()) == before


def test_help_is_fast_and_whole() -> None:
    program = (
        "import sys\n"
        "from theriac.cluster.cli import run\n"
        "assert run(['export', '--help']) == 0\n"
        "heavy = {'optuna', 'duckdb', 'torch', 'sqlalchemy', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("optuna-dashboard", "huggingface-card", "--force", "lines"))


def test_the_file_is_a_plain_sqlite_file(place: Path) -> None:
    assert run(["export", "res", "--to", "optuna", "--out", "s.db"]) == 0
    with sqlite3.connect(place / "s.db") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT count(*) FROM trials").fetchall() == [(4,)]
