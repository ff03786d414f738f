"""What `theriac status` knows: counted from the results, whatever the driver wrote or left behind."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from theriac.errors import BadInput
from theriac.search.report.progress import process_table
from theriac.search.report.status import (
    Running,
    SweepProgress,
    SweepStatus,
    estimate_left,
    status_json,
    status_text,
    sweep_status,
)
from theriac.search.report.status_lines import duration
from theriac.search.store.results import ResultsStore
from theriac.search.sweep.files import Sweep, dump_sweep, load_sweep

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
SWEEP = """
name: small
scenario: digits
seeds: [0, 1]
shares: [0.2, one_shot]
methods: [none, xlf, ssd]
granularities: [sample]
"""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    (tmp_path / "given.yaml").write_text(SWEEP)
    return load_sweep(tmp_path / "given.yaml")


@pytest.fixture
def directory(tmp_path: Path, sweep: Sweep) -> Path:
    """Results in which the sweep has been started."""
    folder = tmp_path / "results" / "sweeps"
    folder.mkdir(parents=True)
    (folder / f"{sweep.key}.yaml").write_text(dump_sweep(sweep))
    progress(sweep).write(folder / f"{sweep.key}.json")
    return folder.parent


def progress(sweep: Sweep, **changes: Any) -> SweepProgress:
    running = Running(worker=1, node="node-a", doing="training victim", scenario="seed 1", done=3, total=200)
    cell = {"doing": "searching", "scenario": "seed 0", "method": "PTN-XLF", "share": "0.2", "done": 7}
    values = {
        **{"name": "small", "sweep": sweep.key, "run": "r", "host": "head", "pid": 12, "state": "running"},
        **{"started_at": NOW - timedelta(seconds=200), "updated_at": NOW, "workers": 2, "cells_total": 12},
        **{"configurations": 1234, "seconds": 200.0, "left_seconds": 245.0, "lost_workers": 1, "retried": 3},
        **{"running": (running, Running(worker=0, node="a", **cell)), **changes},
    }
    return SweepProgress(**values)


def add(directory: Path, sweep: Sweep, *numbers: int, **columns: Any) -> None:
    """Rows of the tasks of these numbers: importance 2 s, search 3 s, evaluation 5 s, victim 40 s."""
    rows = []
    for task in (sweep.tasks()[number] for number in numbers):
        cell = task.cell
        kind = {"method": cell.method, "search": cell.search, "scenario": task.scenario.key}
        kind |= {"dataset": task.scenario.dataset, "model": task.scenario.model.name}
        kind["granularity"] = cell.dampening.granularity if cell.dampening else None
        times = {"seconds_importance": 2.0, "seconds_search": 3.0, "seconds_evaluation": 5.0}
        rows.append(
            {"key": task.key, "status": "stopped", **kind, **times, "seconds_victim": 40.0, **columns}
        )
    ResultsStore(directory).append("searches", rows)


def one(directory: Path, **options: Any) -> SweepStatus:
    (status,) = sweep_status(directory, now=options.pop("now", NOW))
    return status


def test_a_driver_whose_process_has_ended_is_lost_at_once(sweep: Sweep, directory: Path) -> None:
    file = directory / "sweeps" / f"{sweep.key}.json"
    ended = subprocess.Popen(["true"])
    ended.wait()
    table = process_table()
    if table is None:
        pytest.skip("this system does not say which processes there are")
    for pid, processes, state in (
        (os.getpid(), table, "running"),
        (ended.pid, table, "lost"),
        (ended.pid, "of another machine", "running"),
        (ended.pid, None, "running"),
    ):
        progress(sweep, pid=pid, processes=processes).write(file)
        assert sweep_status(directory, now=NOW)[0].state == state


def test_progress_comes_back_as_it_was_written(tmp_path: Path, sweep: Sweep) -> None:
    path = tmp_path / "new" / "x.json"
    for workers in (2, 3):
        progress(sweep, workers=workers).write(path)
        assert SweepProgress.read(path) == progress(sweep, workers=workers)
    assert [found.name for found in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "progress file .*x.json"),
        (b'{"name": "half', "progress file .*x.json"),
        (b"\xff\xfe", "cannot be read"),
        (b"{}", "name"),
        (b"[1]", "progress file .*x.json"),
    ],
)
def test_broken_progress_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadInput, match=message):
        SweepProgress.read(tmp_path / "x.json")


def test_a_moment_without_time_zone_is_refused(sweep: Sweep) -> None:
    with pytest.raises(ValueError, match="updated_at"):
        progress(sweep, updated_at=datetime(2030, 1, 1))


def test_cells_are_counted_from_the_rows(directory: Path, sweep: Sweep) -> None:
    add(directory, sweep, 0, 1, 2, 3)
    add(directory, sweep, 3, 4, status="failed", error_class="MemoryError", error_message="too\nbig")
    add(directory, sweep, 5, status="gate_failed", error_class="GateFailed", error_message="weak")
    add(directory, sweep, 4)  # done again, and well
    ResultsStore(directory).append("searches", [{"key": "of another sweep", "status": "stopped"}])
    status = one(directory)
    assert (status.name, status.state, status.total) == ("small", "running", 12)
    assert (status.done, status.failed, status.running, status.to_go) == (4, 2, 1, 5)
    assert [(f.error_class, f.count, f.message) for f in status.failures] == [
        ("GateFailed", 1, "weak"),
        ("MemoryError", 1, "too big"),
    ]
    assert status.left_seconds == 245.0
    assert status.configurations_per_second == pytest.approx(6.17)
    assert status.problem is None


def test_a_driver_that_is_silent_is_lost_and_the_rows_still_count(directory: Path, sweep: Sweep) -> None:
    add(directory, sweep, 0, 1, 2)
    assert one(directory, now=NOW + timedelta(seconds=30)).state == "running"
    status = one(directory, now=NOW + timedelta(seconds=31))
    assert (status.state, status.done, status.running, status.to_go) == ("lost", 3, 0, 9)
    assert status.left_seconds is not None  # of the results, not of the dead driver
    assert status.left_seconds != 245.0
    text = status_text([status])
    assert "does not answer since 2030-01-01 12:00:00 UTC; run the same command again to go on" in text
    assert "worker 1" not in text


@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_an_ended_driver_is_not_lost(directory: Path, sweep: Sweep, state: str) -> None:
    progress(sweep, state=state, running=()).write(directory / "sweeps" / f"{sweep.key}.json")
    assert one(directory, now=NOW + timedelta(days=3)).state == state


def test_everything_done_leaves_no_time(directory: Path, sweep: Sweep) -> None:
    add(directory, sweep, *range(12))
    assert (one(directory).running, one(directory).to_go) == (0, 0)  # a row is newer than the progress
    progress(sweep, state="finished", running=()).write(directory / "sweeps" / f"{sweep.key}.json")
    status = one(directory)
    assert (status.done, status.to_go, status.running) == (12, 0, 0)
    assert "done 12 / running 0 / failed 0 / to go 0 of 12" in status_text([status])
    assert " left" not in status_text([status])


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff"])
def test_a_broken_progress_file_is_named_and_the_cells_still_count(
    directory: Path, sweep: Sweep, content: bytes | None
) -> None:
    add(directory, sweep, 0)
    path = directory / "sweeps" / f"{sweep.key}.json"
    path.unlink() if content is None else path.write_bytes(content)
    status = one(directory)
    assert (status.state, status.name, status.done, status.to_go) == ("unknown", "small", 1, 11)
    assert str(path) in str(status.problem)
    assert str(path) in status_text([status])


@pytest.mark.parametrize("content", [None, b"", b"scenario: [", b"\xff", b"scenario: digits\nwrong: 1\n"])
def test_a_broken_sweep_file_is_named_and_the_progress_still_shows(
    directory: Path, sweep: Sweep, content: bytes | None
) -> None:
    path = directory / "sweeps" / f"{sweep.key}.yaml"
    path.unlink() if content is None else path.write_bytes(content)
    status = one(directory)
    assert (status.state, status.total, status.done, status.left_seconds) == ("running", None, None, 245.0)
    assert str(path) in str(status.problem)
    assert "cells: 12, how many are done is not known" in status_text([status])


def test_one_broken_sweep_does_not_hide_the_others(directory: Path, sweep: Sweep) -> None:
    (directory / "sweeps" / "broken.yaml").write_text("[")
    (directory / "sweeps" / ".half.tmp").touch()
    assert [status.sweep for status in sweep_status(directory, now=NOW)] == ["broken", sweep.key]


def test_without_sweeps_there_is_nothing(tmp_path: Path) -> None:
    assert sweep_status(tmp_path) == ()
    assert status_text(()) == "no sweep has been run into this directory"
    with pytest.raises(BadInput, match="does not exist"):
        sweep_status(tmp_path / "absent")


def test_the_text_is_for_people(directory: Path, sweep: Sweep) -> None:
    add(directory, sweep, 0, 1, 2, 3)
    add(directory, sweep, 4, 5, status="failed", error_class="OutOfMemoryError", error_message="x" * 500)
    lines = status_text([one(directory)]).splitlines()
    assert lines == [
        f"small ({sweep.key[:8]}): running on head, process 12, 2 workers, for 3 min 20 s",
        "  [" + "#" * 13 + "x" * 7 + ">" * 4 + "." * 16 + "]",
        "  done 4 / running 1 / failed 2 / to go 5 of 12",
        "  1,234 configurations in this run, 6.2 per second; about 4 min 5 s left",
        "  1 worker lost, 3 retried",
        "  worker 1  a       seed 0  PTN-XLF at 0.2  searching 7",
        "  worker 2  node-a  seed 1                  training victim 3/200",
        f"  failed    2 x OutOfMemoryError  {'x' * 159}…",
    ]


def test_the_json_has_everything(directory: Path) -> None:
    (found,) = json.loads(status_json([one(directory)]))
    assert SweepStatus.model_validate(found) == one(directory)


def test_time_left_comes_from_cells_of_the_same_kind(directory: Path, sweep: Sweep) -> None:
    tasks = sweep.tasks()
    xlf = [i for i, task in enumerate(tasks) if task.cell.method == "xlf"]
    ssd = [i for i, task in enumerate(tasks) if task.cell.method == "ssd"]
    scenarios = list(dict.fromkeys(task.scenario.key for task in tasks))
    assert [tasks[i].scenario.key for i in xlf] == [scenarios[0]] * 2 + [scenarios[1]] * 2
    add(directory, sweep, xlf[0])
    add(directory, sweep, ssd[0], seconds_importance=None, seconds_evaluation=37.0)
    add(directory, sweep, ssd[1], status="failed", seconds_search=1e9)
    rows = ResultsStore(directory).read("searches").to_pylist()
    same = estimate_left([tasks[xlf[1]], tasks[ssd[1]]], rows, 2)
    assert same == pytest.approx((10 + 40) / 2)
    other = estimate_left([tasks[0]], rows, 1)
    assert tasks[0].cell.method == "none"
    assert other == pytest.approx((10 + 40) / 2)
    victim = estimate_left([tasks[xlf[2]], tasks[xlf[3]]], rows, 1)
    assert victim == pytest.approx(2 * 10 + 40)
    assert estimate_left([], rows, 1) == 0.0


def test_a_baseline_or_another_dataset_says_nothing_about_searches(directory: Path, sweep: Sweep) -> None:
    tasks = sweep.tasks()
    add(directory, sweep, 0, seconds_importance=None, seconds_search=0.0, seconds_evaluation=None)
    add(directory, sweep, 1, dataset="cifar10")
    rows = ResultsStore(directory).read("searches").to_pylist()
    assert tasks[0].cell.method == "none"
    assert estimate_left([tasks[0]], rows, 1) == 0.0
    assert estimate_left(tasks[:2], rows, 1) is None


def test_without_a_measured_cell_there_is_no_estimate(directory: Path, sweep: Sweep) -> None:
    add(directory, sweep, 0, status="failed")
    add(directory, sweep, 1, seconds_importance=None, seconds_search=None, seconds_evaluation=None)
    rows = ResultsStore(directory).read("searches").to_pylist()
    assert estimate_left(sweep.tasks(), rows, 4) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (18600, "5 h 10 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_bar_shows_whatever_there_is(directory: Path, sweep: Sweep) -> None:
    whole = one(directory)
    for done, running, failed, to_go in ((998, 1, 1, 0), (0, 1, 0, 999), (1, 1, 999, 1), (5, 0, 0, 0)):
        total = done + running + failed + to_go
        counts = {"total": total, "done": done, "running": running, "failed": failed, "to_go": to_go}
        bar = status_text([whole.model_copy(update=counts)]).splitlines()[1].strip()
        assert len(bar) == 42
        assert (">" in bar, "x" in bar) == (running > 0, failed > 0)
        assert ("#" in bar, "." in bar) == (done > 0, to_go > 0)


@pytest.mark.parametrize("name", ["a.yaml", "a.json"])
@pytest.mark.parametrize("kind", ["pipe", "endless", "deep"])
def test_files_that_are_none_are_named_and_do_not_hang(tmp_path: Path, name: str, kind: str) -> None:
    ResultsStore(tmp_path).append("searches", [{"key": "k"}])
    file = tmp_path / "sweeps" / name
    file.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "endless":
        file.symlink_to("/dev/zero")
    else:
        file.write_text("[" * 20_000)
    assert name in (one(tmp_path).problem or "")


def test_a_row_that_took_for_ever_does_not_count(directory: Path, sweep: Sweep) -> None:
    add(directory, sweep, 0, seconds_search=4.0)
    add(directory, sweep, 1, seconds_search=float("inf"), seconds_evaluation=float("-inf"))
    left = one(directory).left_seconds
    assert left is not None
    assert 0 < left < 1e6
