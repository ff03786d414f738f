"""`theriac sweep`, `status` and `plot` on the command line, up to where Ray would start."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import yaml

from theriac import __version__
from theriac.cluster.cli import run
from theriac.cluster.commands.reading import plot
from theriac.cluster.run_sweep import Summary, SweepRun, finished_keys
from theriac.cluster.watch import Reporter
from theriac.search.report.all_figures import MOST
from theriac.search.report.progress import SweepProgress
from theriac.search.report.status import SWEEPS
from theriac.search.store.results import ResultsStore
from theriac.search.sweep.files import Sweep, dump_sweep, load_sweep

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[SweepRun]:
    """Sweeps that would have been run; nothing is."""
    runs: list[SweepRun] = []

    def execute(self: SweepRun, reporter: Reporter | None = None, *, verbose: bool = False) -> Summary:
        runs.append(self)
        return Summary(
            keys=("a", "b", "c"), computed=2, failed=len(self.sweep.seeds or ()), missing=0, counts={}
        )

    monkeypatch.setattr(SweepRun, "execute", execute)
    return runs


def refusal(captured: Captured) -> str:
    """The one line of an error; nothing may be on stdout."""
    out, err = captured.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    return err


def store_rows(directory: Path, sweep: Sweep, *statuses: str, version: str = __version__) -> None:
    """Rows of the first cells of a sweep."""
    store = ResultsStore(directory)
    store.append("runs", [{"key": version, "versions": json.dumps({"theriac": version})}])
    for task, status in zip(sweep.tasks(), statuses, strict=False):
        row: dict[str, Any] = {"key": task.key, "run": version, "status": status, "method": task.cell.method}
        row |= {"scenario": task.scenario.key, "dataset": "digits", "model": "resnet9", "seed": 0}
        row |= {"error_class": "MemoryError", "error_message": "too large"} if status == "failed" else {}
        store.append("searches", [row])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep"], ["SWEEP"]),
        (["sweep", "nosuch"], ["nosuch", "quickstart", "potion-table1", ".yaml"]),
        (["sweep", "digit"], ["did you mean 'digits'"]),
        (["sweep", "nofile.yaml"], ["nofile.yaml", "No such file"]),
        (["sweep", "quickstart", "--set", "seeds"], ["--set seeds", "key=value"]),
        (["sweep", "quickstart", "--set", "seedz=[1]"], ["seedz", "did you mean 'seeds'"]),
        (["sweep", "quickstart", "--set", "seeds=3"], ["seeds = 3", "list"]),
        (["sweep", "quickstart", "--set", "settings.rho=7"], ["rho", "7", "less than 1"]),
        (["sweep", "quickstart", "--set", "datasets=[moon]"], ["moon", "cifar10"]),
        (["sweep", "quickstart", "--workers", "0"], ["--workers", "0", "or equal to 1"]),
        (["sweep", "quickstart", "--per-gpu", "0"], ["--per-gpu", "0", "or equal to 1"]),
        (["sweep", "quickstart", "--device", "tpu"], ["tpu", "cuda"]),
        (["sweep", "quickstart", "--log", "comet"], ["comet", "tensorboard", "mlflow", "wandb"]),
        (["status"], ["RESULTS"]),
        (["status", "nowhere"], ["nowhere", "does not exist"]),
        (["status", "."], ["no sweep was run into .", "theriac sweep"]),
        (["plot", "nowhere"], ["nowhere", "does not exist"]),
        (["plot", "."], ["no finished searches"]),
        (["plot", ".", "--format", "gif"], ["gif", "png", "svg", "pdf"]),
        (["plot", ".", "--most", "0"], ["--most", ">= 1"]),
    ],
)
def test_wrong_usage_is_one_clear_line(
    arguments: list[str],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Captured,
    executed: list[SweepRun],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    error = refusal(capsys)
    assert executed == []
    assert list(tmp_path.iterdir()) == []
    for word in words:
        assert word in error


def test_dry_run_shows_the_sweep_and_touches_nothing(tmp_path: Path, capsys: Captured) -> None:
    results = tmp_path / "results"
    arguments = ["sweep", "quickstart", "--set", "seeds=[0,1]", "--results", str(results), "--dry-run"]
    assert run(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert not results.exists()
    again = tmp_path / "again.yaml"
    again.write_text(out)
    assert load_sweep(again) == load_sweep("quickstart", ["seeds=[0,1]"])
    assert f"# 18 cells on 2 victims; 0 are in {results} already" in out
    assert yaml.safe_load(out)["seeds"] == [0, 1]


def test_dry_run_counts_what_is_there(tmp_path: Path, capsys: Captured) -> None:
    store_rows(tmp_path, load_sweep("quickstart"), "done", "stopped", "failed", "gate_failed")
    assert run(["sweep", "quickstart", "--results", str(tmp_path), "--dry-run"]) == 0
    assert f"# 9 cells on 1 victim; 2 are in {tmp_path} already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("status", "version", "again"),
    [
        ("stopped", __version__, False),
        ("collapsed", __version__, False),
        ("failed", __version__, True),
        ("gate_failed", __version__, True),  # the gate may be another one now
        ("stopped", "0.0.1", True),
    ],
)
def test_what_is_computed_again(tmp_path: Path, status: str, version: str, again: bool) -> None:
    sweep = load_sweep("quickstart")
    store_rows(tmp_path, sweep, status, version=version)
    keys = [task.key for task in sweep.tasks()]
    assert finished_keys(ResultsStore(tmp_path), keys) == (set() if again else {keys[0]})


def test_options_reach_the_sweep(tmp_path: Path, executed: list[SweepRun], capsys: Captured) -> None:
    options = "--store s3://b/f --address auto --workers 3 --device cpu --per-gpu 2 --fresh -v"
    more = ["--results", str(tmp_path), "--data", "d", "--set", "shares=[0.1]", "--set", "name=mine"]
    assert run(["sweep", "quickstart", *options.split(), *more]) == 0
    (found,) = executed
    assert (found.store, found.address, found.workers) == ("s3://b/f", "auto", 3)
    assert (found.device, found.per_gpu, found.fresh) == ("cpu", 2, True)
    assert (found.directory, found.data, found.log) == (tmp_path, Path("d"), None)
    assert (found.sweep.name, found.sweep.shares) == ("mine", (0.1,))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"2 cells computed, 1 already there; theriac table {tmp_path}\n"


def test_failed_cells_are_told_and_in_the_exit_status(
    tmp_path: Path, executed: list[SweepRun], capsys: Captured
) -> None:
    assert run(["sweep", "quickstart", "--set", "seeds=[4]", "--results", str(tmp_path)]) == 1
    assert f"1 failed: see `theriac status {tmp_path}`" in capsys.readouterr().err


def test_interruption_can_be_resumed(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(SweepRun, "execute", interrupt)
    assert run(["sweep", "quickstart"]) == 130
    out, err = capsys.readouterr()
    assert (out, "run the same command again" in err) == ("", True)


def test_logger_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, executed: list[SweepRun], capsys: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert run(["sweep", "quickstart", "--log", "wandb", "--results", str(tmp_path)]) == 2
    assert "pip install wandb" in refusal(capsys)
    assert executed == []


def test_logger_is_passed_on(tmp_path: Path, executed: list[SweepRun]) -> None:
    run(["sweep", "quickstart", "--log", "tensorboard", "--results", str(tmp_path)])
    assert executed[0].log is not None


def test_results_folder_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert run(["sweep", "quickstart", "--results", str(file)]) == 2
    assert f"{file}: it or a folder above it is a file" in refusal(capsys)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(Path, "mkdir", refuse)  # the superuser may write to every folder
    assert run(["sweep", "quickstart", "--results", "locked"]) == 2
    assert "results directory locked cannot be written (Permission denied)" in refusal(capsys)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """A sweep that was interrupted an hour ago: two cells done, one failed, five to go."""
    sweep = load_sweep("quickstart")
    store_rows(tmp_path, sweep, "done", "stopped", "failed")
    (tmp_path / SWEEPS).mkdir()
    (tmp_path / SWEEPS / f"{sweep.key}.yaml").write_text(dump_sweep(sweep))
    moment = datetime.now(UTC) - timedelta(hours=1)
    SweepProgress(
        name="quickstart",
        sweep=sweep.key,
        run="r",
        host="h",
        pid=1,
        started_at=moment,
        updated_at=moment,
        state="interrupted",
        workers=2,
        cells_total=9,
    ).write(tmp_path / SWEEPS / f"{sweep.key}.json")
    return tmp_path


def test_status_goes_to_stdout(interrupted: Path, capsys: Captured) -> None:
    assert run(["status", str(interrupted)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "quickstart" in out
    assert "interrupted at" in out
    assert "done 2 / running 0 / failed 1 / to go 6 of 9" in out
    assert "MemoryError" in out


def test_status_as_json(interrupted: Path, capsys: Captured) -> None:
    assert run(["status", str(interrupted), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["total"], found["done"], found["failed"], found["to_go"]) == (9, 2, 1, 6)
    assert found["failures"] == [{"error_class": "MemoryError", "count": 1, "message": "too large"}]


def scored_rows(directory: Path, count: int) -> None:
    row: dict[str, Any] = {"model": "resnet9", "attack": "badnets", "manipulated": 100, "share": "0.2"}
    row |= {"seed": 0, "method": "none", "status": "done", "healed_raw": 0.1, "damage": 0.0}
    rows = [{"key": f"{number}", "dataset": f"data{number}", **row} for number in range(count)]
    ResultsStore(directory).append("searches", rows)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_plot_draws_in_the_format_that_was_asked_for(tmp_path: Path, capsys: Captured, ending: str) -> None:
    scored_rows(tmp_path, 1)
    assert run(["plot", str(tmp_path), "--to", str(tmp_path / "new"), "--format", ending]) == 0
    out, err = capsys.readouterr()
    names = [Path(line).name for line in out.splitlines()]
    assert names == [
        f"data0-resnet9-badnets-baselines.{ending}",
        f"healed-damage-data0-resnet9-badnets.{ending}",
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    assert err == ""


def test_plot_says_what_it_leaves_out(
    tmp_path: Path, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    scored_rows(tmp_path, 3)
    assert run(["plot", str(tmp_path), "--most", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert len(list((tmp_path / "figures").iterdir())) == 2
    said = "2 more figures of healing against damage are not drawn; --most 3 draws all"
    assert said in caplog.text
    assert signature(plot).parameters["most"].default == MOST
