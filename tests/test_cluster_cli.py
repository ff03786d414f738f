"""The command line as a demanding user meets it: exit statuses, streams, messages."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from torch import nn

from theriac.cluster import cli
from theriac.cluster.cli import run
from theriac.errors import BadInput
from theriac.search.heal import Healing
from theriac.search.settings import SEARCHES
from theriac.search.store.results import ResultsStore

WITHOUT_NOTES = {"target_kept": 0.9, "classes_seen": 1.0}
COMMANDS = ("quickstart", "heal", "sweep", "status", "plot", "table", "list", "doctor")
HEAL = ["heal", "--weights", "a.pt", "--forget", "b", "--retain", "c"]
LAUNCH = [sys.executable, "-c", "from theriac.cluster.cli import main; main()"]

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder with three finished searches; one could not be finished."""
    store = ResultsStore(tmp_path / "results")
    common: dict[str, Any] = {"scenario": "abc", "dataset": "digits", "model": "resnet9", "attack": "badnets"}
    common |= {"manipulated": 100, "discovered": 20, "share": "0.2", "uses_oracle": False}
    common |= {"clean_accuracy_before": 0.99, "asr_before": 1.0, "healed_raw_before": 0.1}
    scores = {"clean_accuracy": 0.98, "asr": 0.03, "healed_raw": 0.9, "healed": 95.0, "damage": -1.0}
    store.append("searches", [{**common, **scores, "key": "1", "seed": 0, "method": "eu", "status": "done"}])
    store.append("searches", [{**common, **scores, "key": "2", "seed": 1, "method": "eu", "status": "done"}])
    failed = {"status": "failed", "error_class": "MemoryError", "error_message": "too [red]large[/]"}
    store.append("searches", [{**common, **failed, "key": "3", "seed": 0, "method": "xlf"}])
    return store.directory


def launch(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        [*LAUNCH, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        **options,
    )


def refusal(captured: Captured) -> str:
    """The one line of an error; nothing may be on stdout."""
    out, err = captured.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_every_option_with_its_default(command: str, capsys: Captured) -> None:
    assert run([command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    options = set(re.findall(r"--[a-z][a-z-]*", out))
    defaults = out.count("[default:") + out.count("[required]") + out.lower().count("by default")
    assert defaults >= len(options - {"--help"})
    assert "--no-" not in out


def test_help_of_heal_has_the_documented_defaults(capsys: Captured) -> None:
    run(["heal", "--help"])
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option, default in {
        "rho": "0.2",
        "b-start": "25.0",
        "s-step": "1.1",
        "mean": "0",
        "search": "auto",
        "alphas": "0.1 1 10 50 100 500 1000 10000 100000 1e+06",
        "relative-lambdas": "0.1 0.5 1 5 10",
        "held-out": "1000",
        "out": "healed",
    }.items():
        assert re.search(rf"--{option} .*?\[default: {re.escape(default)}\]", out), option


def test_without_a_command_it_shows_them_all(capsys: Captured) -> None:
    assert run([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


def test_version_goes_to_stdout(capsys: Captured) -> None:
    assert run(["--version"]) == 0
    assert re.fullmatch(r"\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cure"], ["cure", "quickstart, heal, sweep, plan, status, plot, table"]),
        (["quickstart", "--nope"], ["--nope"]),
        (["quickstart", "--workers", "0"], ["--workers", "0", ">= 1"]),
        (["quickstart", "--workers", "two"], ["--workers", "two"]),
        (["quickstart", "--seed", "-1"], ["--seed", "-1", ">= 0"]),
        (["quickstart", "--seed", str(2**63)], ["--seed", str(2**63)]),
        (["list", "recipes"], ["recipes", "datasets", "presets"]),
        (["table"], ["RESULTS"]),
        (["table", "x", "--format", "pdf"], ["pdf", "markdown", "latex", "csv"]),
        (["table", "nowhere"], ["nowhere", "does not exist"]),
        (["table", ""], ["folder is empty", "give a folder"]),
        (["quickstart", "--results", ""], ["--results", "is empty"]),
        (["sweep", "digits", "--results", "s3://bucket/x"], ["--results", "is a URI", "--store"]),
        (["plot", "x", "--to", " "], ["--to", "is empty"]),
        (["status", "s3://me:pass/word@bucket"], ["s3://me:***@bucket", "is a URI"]),
        ([*HEAL, "--out", ""], ["--out", "is empty"]),
        ([*HEAL, "--out", "gs://bucket/x"], ["--out", "is a URI"]),
        (["heal", "--forget", "b", "--retain", "c"], ["--weights"]),
        ([*HEAL, "--rho", "1.5"], ["--rho 1.5", "less than 1", "'auto'"]),
        ([*HEAL, "--rho", "banana"], ["--rho banana", "number", "'auto'"]),
        ([*HEAL, "--s-step", "1"], ["--s-step 1", "greater than 1"]),
        ([*HEAL, "--b-start", "0"], ["--b-start 0", "greater than 0"]),
        ([*HEAL, "--batch-size", "0"], ["--batch-size 0", "greater than or equal to 1"]),
        ([*HEAL, "--max-steps", "many"], ["--max-steps many", "integer"]),
        ([*HEAL, "--method", "magic"], ["--method magic", "'ssd', 'lf' or 'xlf'"]),
        ([*HEAL, "--method", "rga", "--alphas", "1"], ["--alphas", "rga does not use this", "dampens"]),
        ([*HEAL, "--set", "learning_rate=1"], ["--set", "xlf does not use this", "trains"]),
        ([*HEAL, "--together", "2"], ["--together", "xlf does not use this"]),
        ([*HEAL, "--granularity", "pixel"], ["--granularity pixel", "'sample' or 'batch'"]),
        ([*HEAL, "--search", "raster"], ["--search raster", f"{', '.join(map(repr, SEARCHES))} or 'fixed'"]),
        ([*HEAL, "--search", "grid", "--rho", "0.2"], ["--rho 0.2", "'grid' does not use this"]),
        ([*HEAL, "--dampening-constant", "1", "--search", "grid"], ["--dampening-constant 1", "'ptn'"]),
        ([*HEAL, "--held-out", "1000"], ["--held-out 1000", "'ptn' does not use this", "'grid'"]),
        ([*HEAL, "--search", "grid", "--alphas", "1", "0"], ["--alphas", "finite numbers above 0"]),
        ([*HEAL, "--search", "grid", "--alphas"], ["--alphas", "at least one"]),
        ([*HEAL, "--width", "0"], ["width", "0", "greater than 0"]),
        ([*HEAL, "--width", "wide"], ["--width", "wide"]),
        (HEAL, ["a.pt", "no such file"]),
    ],
)
def test_wrong_usage_is_one_clear_line(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    error = refusal(capsys)
    assert "pydantic" not in error
    for word in words:
        assert word in error


def test_results_folder_that_is_a_file(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "file"
    file.touch()
    assert run(["table", str(file)]) == 2
    assert "is a file" in refusal(capsys)
    assert run(["quickstart", "--results", str(file / "below")]) == 2
    assert str(file) in refusal(capsys)


def test_results_folder_that_cannot_be_written(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(Path, "mkdir", refuse)  # the superuser may write to every folder
    assert run(["quickstart", "--results", "locked"]) == 2
    assert "results directory locked cannot be written (Permission denied)" in refusal(capsys)


def test_results_folder_that_is_empty(tmp_path: Path, capsys: Captured) -> None:
    assert run(["table", str(tmp_path)]) == 2
    assert "no finished searches" in refusal(capsys)


def test_results_of_another_schema(results: Path, capsys: Captured) -> None:
    part = next((results / "searches").glob("*.parquet"))
    rows = pq.read_table(part)
    entries = {**rows.schema.metadata, b"theriac_schema_version": b"99"}
    pq.write_table(rows.replace_schema_metadata(entries), part)
    assert run(["table", str(results)]) == 2
    assert "schema version 99" in refusal(capsys)


def test_torn_part_is_named_and_passed_over(results: Path) -> None:
    parts = sorted((results / "searches").glob("*.parquet"))
    parts[0].write_bytes(parts[0].read_bytes()[:-20])
    done = launch("table", results)
    assert done.returncode == 0
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("warning: ")
    assert str(parts[0]) in done.stderr
    assert done.stdout.count("EU") == 1


def test_table_in_every_format(results: Path, capsys: Captured) -> None:
    texts = {}
    for name in ("terminal", "markdown", "latex", "csv"):
        assert run(["table", str(results), "--format", name]) == 0
        texts[name], err = capsys.readouterr()
        assert err == ""
    assert "| EU" in texts["markdown"]
    assert r"\toprule" in texts["latex"]
    rows = list(csv.DictReader(io.StringIO(texts["csv"])))
    assert sorted((row["method"], row["seed"], row["status"]) for row in rows) == [
        ("eu", "0", "done"),
        ("eu", "1", "done"),
        ("xlf", "0", "failed"),
    ]
    assert "too [red]large[/]" in texts["terminal"]


def test_table_over_seeds(results: Path, capsys: Captured) -> None:
    assert run(["table", str(results), "--aggregate", "--format", "csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["method"]: (row["n"], row["rows"]) for row in rows} == {"eu": ("2", "2"), "xlf": ("0", "1")}


def test_piped_table_has_no_colours_and_does_not_wrap(results: Path) -> None:
    done = launch("table", results, env={"COLUMNS": "20", "TERM": "xterm-256color"})
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    lines = [line for line in done.stdout.splitlines() if " EU " in line]
    assert len(lines) == 2
    assert all(line.rstrip().endswith("done") for line in lines)


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LANG": "C", "LC_ALL": ""},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONUTF8": "0", "LC_ALL": "POSIX"},
    ],
)
def test_arrows_do_not_break_plain_terminals(results: Path, environment: dict[str, str]) -> None:
    done = launch("table", results, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "EU" in done.stdout


@pytest.mark.parametrize("command", ["table {results} --format csv", "heal --help"])
def test_reader_that_closes_early(results: Path, command: str) -> None:
    words = command.format(results=results).split()
    with subprocess.Popen([*LAUNCH, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_full_disk_below_stdout(results: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        done = subprocess.run([*LAUNCH, "table", results], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: cannot write: No space left on device; free some space\n"


def test_file_that_may_not_be_read_is_named(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "secret.parquet")

    monkeypatch.setattr("theriac.cluster.commands.listing", refuse)
    assert run(["list"]) == 2
    assert "secret.parquet: Permission denied" in refusal(capsys)


def test_defects_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_: object) -> None:
        raise OSError("a defect of the program")

    monkeypatch.setattr("theriac.cluster.commands.listing", defect)
    with pytest.raises(OSError, match="defect"):
        run(["list"])


def test_interruption(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("theriac.cluster.commands.listing", interrupt)
    assert run(["list"]) == 130
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)


def test_bad_input_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def refuse(*_: object) -> None:
        raise BadInput("folder [bold]/x[/] → " + "long " * 60)

    monkeypatch.setattr("theriac.cluster.commands.listing", refuse)
    assert run(["list"]) == 2
    assert "folder [bold]/x[/] → long long" in refusal(capsys)


@pytest.mark.parametrize(
    "topic", ["datasets", "models", "attacks", "methods", "searches", "presets", "sweeps"]
)
def test_list_of_one_topic(topic: str, tmp_path: Path, capsys: Captured) -> None:
    assert run(["list", topic, "--data", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[0] == topic
    expected = {
        "datasets": "digits",
        "models": "resnet9",
        "attacks": "badnets",
        "methods": "xlf",
        "searches": "grid",
        "presets": "digits",
        "sweeps": "potion-table1",
    }
    assert expected[topic] in out
    assert all(line.startswith("  ") for line in out.splitlines()[1:])


def test_list_says_how_to_get_what_is_missing(tmp_path: Path, capsys: Captured) -> None:
    run(["list", "datasets", "--data", str(tmp_path)])
    entry = capsys.readouterr().out.partition("cifar10 ")[2].partition("cifar100 ")[0]
    assert "missing" in entry
    assert "torchvision" in entry


def test_doctor_of_a_good_and_of_a_bad_place(tmp_path: Path, capsys: Captured) -> None:
    file = tmp_path / "file"
    file.touch()
    assert run(["doctor", "--results", str(file / "below")]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    fault = next(line for line in out.splitlines() if line.startswith("FAULT disk"))
    assert str(file / "below") in fault
    assert out.splitlines()[out.splitlines().index(fault) + 1].startswith("      choose")


def test_doctor_exit_status_follows_the_checks(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from theriac.cluster.commands.doctor import Check

    monkeypatch.setattr("theriac.cluster.commands.diagnose", lambda *_, **__: [Check("all", True, "[well]")])
    assert run(["doctor"]) == 0
    assert capsys.readouterr().out == "ok    all: [well]\n"


def test_module_can_be_run() -> None:
    done = subprocess.run([sys.executable, "-m", "theriac", "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_listing_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, theriac.cluster.cli as cli; cli.run(['--version']); "
        "print(sorted({'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_report_is_json_without_the_trace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    class Saved(Healing):
        def save(self, directory: str | Path) -> Path:
            return Path(directory)

    healed = Saved(
        model=nn.Identity(),
        status="stopped",
        alpha=2.0,
        dampening_constant=1.0,
        trace=({"s": 1.0},),
        metrics={"forget_count": 20, "forget_accuracy": 0.15, "agreement": 0.987, **WITHOUT_NOTES},
        settings={"method": "xlf", "search": "ptn"},
    )
    monkeypatch.setattr("theriac.cluster.commands.heal.HealRequest.run", lambda *_: healed)
    assert run([*HEAL, "--out", str(tmp_path / "[x]")]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert (report["status"], report["alpha"]) == ("stopped", 2.0)
    assert "trace" not in report
    assert err.startswith(
        f"healed model: {tmp_path}/[x]/model.safetensors; 3 of 20 found images are still read"
    )


def test_every_command_is_documented() -> None:
    assert set(COMMANDS) <= set(cli.app)
