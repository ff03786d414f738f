"""Whole runs on a local Ray, and what is left of them when something is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from theriac import __version__
from theriac.cluster import cells
from theriac.cluster.cells import CellRun
from theriac.cluster.cli import run
from theriac.cluster.quickstart import quickstart_cells
from theriac.cluster.session import local_ray
from theriac.errors import BadInput
from theriac.search.results import ResultsStore
from theriac.search.scenarios import PRESETS, Cell, Scenario
from theriac.search.settings import HealSettings
from theriac.unlearning.models import ModelSpec
from theriac.unlearning.training import Recipe

NEVER = 240
SCENARIO = Scenario(
    dataset="digits",
    model=ModelSpec(width=0.0625),
    manipulated=100,
    recipe=Recipe(iterations=40, batch_size=128, learning_rate=0.05, augmentation="none"),
)
NONE = Cell(share=0.2, baseline="none")
LF = Cell(share=0.2, settings=HealSettings(method="lf"))
XLF = Cell(share=0.2, settings=HealSettings(method="xlf"))

# `theriac` with a small scenario under the name of the quickstart's
DRIVER = """
import sys
from theriac.search.scenarios import PRESETS, Scenario
PRESETS["digits"] = Scenario.model_validate_json(sys.argv.pop(1))
from theriac.cluster.cli import main
main()
"""


@pytest.fixture(scope="module")
def small_ray() -> Iterator[None]:
    with local_ray(2):
        yield


def cell_run(directory: Path, *chosen: Cell, **changes: Any) -> CellRun:
    return CellRun(**{"scenario": SCENARIO, "cells": chosen, "directory": directory, **changes})


def searches(directory: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = ResultsStore(directory, create=False).read("searches").to_pylist()
    return rows


def parts(directory: Path, table: str = "searches") -> int:
    return len(list((directory / table).glob("part-*.parquet")))


def wait_until(happened: Callable[[], Any], watched: subprocess.Popen[str] | None = None) -> Any:
    end = time.monotonic() + NEVER
    while time.monotonic() < end:
        found = happened()
        if found:
            return found
        if watched is not None and watched.poll() is not None:
            raise AssertionError(f"ended with {watched.returncode}: {watched.communicate()}")
        time.sleep(0.02)
    raise AssertionError(f"waited {NEVER} s in vain")


def descendants(process: int) -> dict[int, str]:
    """Processes below one, with their command lines."""
    parents: dict[int, tuple[int, str]] = {}
    found: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(folder.name)] = parent, (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    below = {process}
    while more := {child for child, (parent, _) in parents.items() if parent in below} - below:
        below |= more
        found |= {child: parents[child][1] for child in more}
    return found


def is_alive(process: int) -> bool:
    """Whether it runs; one that ended may be listed until its parent looks."""
    try:
        return (Path(f"/proc/{process}/stat")).read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def working(method: str) -> int | None:
    """A worker of this process that is in a method."""
    names = descendants(os.getpid()).items()
    return next((process for process, name in names if name.startswith(f"ray::Worker.{method}")), None)


def kill_when_working(method: str) -> Thread:
    thread = Thread(target=lambda: os.kill(wait_until(lambda: working(method)), signal.SIGKILL), daemon=True)
    thread.start()
    return thread


def drive(directory: Path, *options: str) -> subprocess.Popen[str]:
    """`theriac quickstart` on the small scenario, in a process and a process group of its own."""
    command = [sys.executable, "-c", DRIVER, SCENARIO.model_dump_json(), "quickstart"]
    command += ["--results", str(directory), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


@pytest.mark.usefixtures("small_ray")
def test_only_what_is_missing_is_computed(tmp_path: Path) -> None:
    first = cell_run(tmp_path, NONE).execute(1)
    assert (first.computed, first.failed) == (1, 0)
    second = cell_run(tmp_path, NONE, LF).execute(1)
    assert (second.computed, second.keys[0]) == (1, first.keys[0])
    rows = searches(tmp_path)
    assert [row["method"] for row in rows] == ["none", "lf"]
    assert [row["key"] for row in rows] == list(second.keys)
    assert rows[1]["status"] == "stopped"
    assert rows[1]["healed_raw"] > rows[1]["healed_raw_before"]
    steps = ResultsStore(tmp_path).read("steps").to_pylist()
    assert {step["search"] for step in steps} == {second.keys[1]}
    runs = ResultsStore(tmp_path).read("runs").to_pylist()
    assert [row["run"] for row in rows] == [one["key"] for one in runs]

    third = cell_run(tmp_path, NONE, LF, fresh=True).execute(1)
    assert third.computed == 2
    again = searches(tmp_path)
    assert Counter(row["key"] for row in again) == dict.fromkeys(second.keys, 1)
    assert parts(tmp_path) == 4
    assert {row["run"] for row in again}.isdisjoint({row["run"] for row in rows})
    alike = ("method", "alpha", "steps", "dampened", "clean_accuracy", "asr", "healed_raw")
    assert [{n: row[n] for n in alike} for row in sorted(again, key=lambda r: r["method"])] == [
        {n: row[n] for n in alike} for row in sorted(rows, key=lambda r: r["method"])
    ]


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
    store = ResultsStore(tmp_path)
    store.append("runs", [{"key": "r", "versions": json.dumps({"theriac": version})}])
    store.append("searches", [{"key": "s", "run": "r", "status": status}])
    assert cells._finished(store, ("s", "other")) == (set() if again else {"s"})
    assert cells._failures(store, ("s",)) == (status in ("failed", "gate_failed"))


@pytest.mark.usefixtures("small_ray")
def test_training_that_fails_is_a_row_for_every_cell(tmp_path: Path) -> None:
    growing = SCENARIO.recipe.model_copy(update={"learning_rate": 10.0, "weight_decay": 1.0, "warmup": 0.0})
    scenario = SCENARIO.model_copy(update={"recipe": growing})
    summary = cell_run(tmp_path, NONE, XLF, scenario=scenario).execute(1)
    assert (summary.computed, summary.failed) == (2, 2)
    for row in searches(tmp_path):
        assert (row["status"], row["error_class"]) == ("failed", "TrainingDiverged")
        assert "lower the learning rate" in row["error_message"]


@pytest.mark.usefixtures("small_ray")
def test_missing_dataset_is_bad_input(tmp_path: Path) -> None:
    scenario = SCENARIO.model_copy(update={"dataset": "cifar10"})
    with pytest.raises(BadInput, match="cifar10"):
        cell_run(tmp_path / "r", NONE, scenario=scenario, data_root=tmp_path / "no").execute(1)
    assert searches(tmp_path / "r") == []


@pytest.mark.usefixtures("small_ray")
def test_killed_worker_costs_nothing(tmp_path: Path) -> None:
    killer = kill_when_working("run")
    summary = cell_run(tmp_path, LF, XLF).execute(1)
    killer.join(NEVER)
    assert (summary.computed, summary.failed) == (2, 0)
    assert {row["status"] for row in searches(tmp_path)} == {"stopped"}


@pytest.mark.usefixtures("small_ray")
def test_worker_that_is_dead_for_good_costs_one_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once = {**cells.ACTOR_OPTIONS, "max_restarts": 0, "max_task_retries": 0}
    monkeypatch.setattr(cells, "ACTOR_OPTIONS", once)
    killer = kill_when_working("run")
    summary = cell_run(tmp_path, LF, XLF).execute(1)
    killer.join(NEVER)
    assert (summary.computed, summary.failed) == (2, 1)
    statuses = {row["status"]: row for row in searches(tmp_path)}
    assert set(statuses) == {"failed", "stopped"}
    assert statuses["failed"]["error_class"] == "WorkerDied"
    assert "run the same command again" in statuses["failed"]["error_message"]
    summary = cell_run(tmp_path, LF, XLF).execute(1)
    assert (summary.computed, summary.failed) == (1, 0)
    assert Counter(row["status"] for row in searches(tmp_path)) == {"stopped": 2}


def quickstart(directory: Path, *options: str) -> int:
    """`theriac quickstart` on the small scenario, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "digits", SCENARIO)
        return run(["quickstart", "--results", str(directory), *options])


def test_killed_driver_loses_nothing_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    driver = drive(tmp_path, "--workers", "1")
    wait_until(lambda: parts(tmp_path) >= 2, driver)
    orphans = descendants(driver.pid)
    driver.kill()
    driver.communicate()
    finished = {row["key"]: row["written_at"] for row in searches(tmp_path)}
    assert 2 <= len(finished) < len(quickstart_cells())
    assert run(["table", str(tmp_path), "--format", "csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(finished)

    assert quickstart(tmp_path, "--workers", "1") == 0
    out, err = capsys.readouterr()
    rest = len(quickstart_cells()) - len(finished)
    assert f"cells: {rest} computed, {len(finished)} already there" in err
    rows = searches(tmp_path)
    assert len(rows) == len({row["key"] for row in rows}) == parts(tmp_path) == len(quickstart_cells())
    assert finished.items() <= {row["key"]: row["written_at"] for row in rows}.items()
    assert sorted(Counter(row["run"] for row in rows).values()) == sorted([rest, len(finished)])
    assert len({row["run"] for row in rows}) == parts(tmp_path, "runs") == 2
    assert out.count("PTN-") == 6
    # Ray's agents, which do nothing then, may take a minute to notice
    heavy = [process for process, name in orphans.items() if "Agent" not in name]
    assert any(name.startswith("ray::Worker") for name in orphans.values())
    wait_until(lambda: not any(is_alive(process) for process in heavy))


def test_interrupted_driver_can_go_on(tmp_path: Path) -> None:
    driver = drive(tmp_path)
    wait_until(lambda: parts(tmp_path) >= 1, driver)
    processes = descendants(driver.pid)
    os.killpg(driver.pid, signal.SIGINT)  # as Ctrl-C: to all processes of the terminal's group
    out, err = driver.communicate(timeout=NEVER)
    assert (driver.returncode, out) == (130, "")
    # Ray's own servers may write a line about what was under way; nothing of Python's may be there
    assert err.splitlines()[-1] == "interrupted; finished cells are kept: run the same command again to go on"
    assert "Traceback" not in err
    assert searches(tmp_path)
    wait_until(lambda: not any(is_alive(process) for process in processes))


def test_two_quickstarts_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drivers = [drive(tmp_path, "--workers", "1") for _ in range(2)]
    for driver in drivers:
        out, err = driver.communicate(timeout=NEVER)
        assert driver.returncode == 0, err
        assert out.count("PTN-") == 6
        assert len(err.splitlines()) == 4
    rows = searches(tmp_path)
    assert len(rows) == len(quickstart_cells())
    assert {row["status"] for row in rows} <= {"done", "stopped", "no_stop", "collapsed"}
    assert not [path for path in (tmp_path / "models").iterdir() if path.name.startswith(".")]
    for figure in ("samples.png", "tradeoff.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(cells, "local_ray", lambda *_, **__: pytest.fail("started Ray"))
    assert quickstart(tmp_path) == 0
    assert "cells: 0 computed, 8 already there" in capsys.readouterr().err
    assert parts(tmp_path, "runs") == 2
