"""A small sweep, its undisturbed rows, and its command as a process that tests watch and disturb."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from theriac.cluster import cli
from theriac.search.report.status import SweepStatus, sweep_status
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.results import ResultsStore
from theriac.search.store.schemas import STAMPS
from theriac.search.sweep.cells import run_cell
from theriac.search.sweep.files import Sweep, load_sweep
from theriac.search.sweep.victim_bench import Experiment
from theriac.tests.signals import heard
from theriac.tests.sweep_command import SUMMARY, prepared

LAUNCH = [sys.executable, "-m", "theriac.tests.sweep_command"]
PATIENCE = 1200.0  # of a machine that others load
TRIAL, ACTOR = "ray::JobTrial", "ray::ImportanceActor"
LATE = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""Of a local Ray whose driver was killed these two stay for 60 s, to report to it."""
UNLIKE = ("seconds_", "peak_memory", "run", "sweep", *STAMPS)
"""Columns (or how they begin) that two runs of one cell need not agree in."""

SWEEP = """
name: faults
scenario:
  preset: digits
  model: {name: resnet9, width: 0.0625}
  recipe: {iterations: 40}
  gate: {clean_accuracy: 0, asr: 0}
seeds: [0]
shares: [one_shot, 0.5]
methods: [none, eu, ssd, xlf]
granularities: [sample, batch]
searches: [ptn, grid]
settings: {max_steps: 60}
settings_for:
  - when: {granularities: batch}
    set: {batch_size: 16}
  - when: {searches: grid}
    set: {alphas: [1, 10, 100], relative_lambdas: [0.1, 1]}
exclude:
  - {searches: grid, methods: xlf}
  - {searches: grid, granularities: batch}
  - {methods: eu, shares: one_shot}
scoring: {steps: 0}
"""

TWO_VICTIMS = SWEEP.replace("seeds: [0]", "seeds: [0, 1]")

Row = dict[str, Any]
Rows = dict[str, dict[str, Row]]


def written_sweep(folder: Path, text: str = SWEEP) -> Path:
    """The sweep as a file."""
    file = folder / "faults.yaml"
    file.write_text(text)
    return file


def comparable(row: Row) -> Row:
    """What every run of the cell must agree in."""
    return {name: value for name, value in row.items() if value is not None and not name.startswith(UNLIKE)}


def sequential_rows(sweep: Sweep, folder: Path) -> Rows:
    """Table -> key -> row, cell after cell in this process; through Parquet, which narrows some numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    store, results = ArtifactStore(folder), ResultsStore(folder)
    experiments: dict[str, Experiment] = {}
    for task in sweep.tasks():
        new = Experiment(task.scenario, store, scoring=sweep.scoring)
        cell = run_cell(experiments.setdefault(task.scenario.key, new), task.cell)
        results.append("searches", [cell.search])
        results.append("steps", cell.steps)
    torch.set_num_threads(threads)
    return found_rows(folder)


@lru_cache(maxsize=2)
def reference_rows(text: str = SWEEP) -> Rows:
    """Those of a sweep, undisturbed."""
    with TemporaryDirectory() as folder:
        return sequential_rows(load_sweep(written_sweep(Path(folder), text)), Path(folder) / "results")


def found_rows(folder: Path) -> Rows:
    """Table -> key -> what runs must agree in."""
    results = ResultsStore(folder, create=False)
    tables = {name: results.read(name).to_pylist() for name in ("searches", "steps")}
    assert not results.skipped
    return {name: {row["key"]: comparable(row) for row in rows} for name, rows in tables.items()}


def differences(folder: Path, rows: Rows) -> list[str]:
    """Where results are not ``rows``: keys that only one has, and columns that are not equal."""
    found, unlike = found_rows(folder), []
    for table, expected in rows.items():
        unlike += [f"{table} {key}: in one only" for key in found[table].keys() ^ expected.keys()]
        for key in found[table].keys() & expected.keys():
            now, before = found[table][key], expected[key]
            for name in now.keys() | before.keys():
                if now.get(name) != before.get(name):
                    unlike.append(f"{table} {key} {name}: {now.get(name)!r}, not {before.get(name)!r}")
    return unlike


def finished_cells(folder: Path) -> int:
    """How many cells have a row; 0 where nothing was written yet."""
    return len(list((folder / "searches").glob("*.parquet"))) and len(found_rows(folder)["searches"])


def artifacts(folder: Path) -> dict[str, int]:
    """Finished models and importances -> when their data was written."""
    files = [*folder.glob("models/[!.]*/info.json"), *folder.glob("importances/[!.]*/info.json")]
    found = {}
    for file in files:
        with suppress(FileNotFoundError):  # shards are discarded when they are merged
            found[f"{file.parent.parent.name}/{file.parent.name}"] = file.stat().st_mtime_ns
    return found


def finished(folder: Path) -> dict[str, object]:
    """What nobody may compute again: models and importances, rows of cells -> when they were written."""
    rows = ResultsStore(folder, create=False).read("searches").to_pylist() if folder.is_dir() else []
    return {**artifacts(folder), **{row["key"]: row["written_at"] for row in rows}}


def computed_again(before: dict[str, object], folder: Path) -> list[str]:
    """What was finished ``before`` and has been written since; shards that were merged do not count."""
    now = finished(folder)
    return [name for name, written in before.items() if now.get(name, written) != written]


def half_written(folder: Path) -> list[Path]:
    """Temporary files and folders; a killed process may leave some, others must not."""
    return [path for path in folder.rglob(".*") if not path.name.startswith(".generation-")]


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What ``condition`` gives as soon as it gives anything."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.2)  # a look takes as long as some cells: more often, and it slows the sweep down
    raise AssertionError(f"waited {seconds} s in vain for {what}")


@dataclass(frozen=True)
class Process:
    """A process of this machine; the time it started tells it from a later one of the same number."""

    pid: int
    started: str
    parent: int = field(compare=False)
    command: str = field(compare=False)

    @property
    def alive(self) -> bool:
        """Whether it is still there, and no zombie."""
        return self in all_processes()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; no error if it is gone."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


def all_processes() -> Iterator[Process]:
    """What runs now."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if fields[0] != "Z":
                yield Process(int(folder.name), fields[19], int(fields[1]), command.strip())


@dataclass(frozen=True)
class Ended:
    """`theriac sweep`, over.

    Attributes:
        code: its exit status.
        said: standard output and error.
        results: folder.
        summary: what `SweepRun.execute` returned.
    """

    code: int
    said: str
    results: Path
    summary: Row

    @property
    def status(self) -> SweepStatus:
        """As `theriac status` sees it."""
        (found,) = sweep_status(self.results)
        return found


def run_here(file: Path, results: Path, *options: object) -> Ended:
    """Run `theriac sweep` with one worker in this process, on the Ray that runs here (see `ray_here`).

    For runs that nobody disturbs: they spare the start of a process and of Ray.
    """
    said, summary = StringIO(), results.with_suffix(".json")
    summary.unlink(missing_ok=True)
    arguments = ["sweep", file, "--results", results, "--workers", 1, *options]
    with prepared(summary), redirect_stdout(said), redirect_stderr(said):
        code = cli.run([*map(str, arguments)])
    return Ended(code, said.getvalue(), results, dict(json.loads(summary.read_text())))


class Command:
    """`theriac sweep`, running; all processes that it ever had are remembered.

    Args:
        file: of the sweep.
        results: folder.
        options: further ones.
        workers: None leaves --workers out.
        log: file for what it says; by default beside the results.
    """

    def __init__(
        self,
        file: Path,
        results: Path,
        *options: object,
        workers: int | None = 2,
        log: Path | None = None,
    ) -> None:
        self.results, self._said = results, log or results.with_suffix(".log")
        self._summary = self._said.with_suffix(".json")
        self._summary.unlink(missing_ok=True)
        arguments = ["sweep", file, "--results", results, *options]
        arguments += ["--workers", workers] if workers else []
        with self._said.open("w") as said, heard():
            self.process = subprocess.Popen(
                [*LAUNCH, *map(str, arguments)],
                stdout=said,
                stderr=said,
                env={**os.environ, SUMMARY: str(self._summary)},
                start_new_session=True,  # a terminal's Ctrl-C goes to the whole group
            )
        self._known: dict[int, Process] = {}

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_: object) -> None:
        self.processes()
        self.process.kill()
        self.process.wait()
        for process in self._known.values():
            process.kill()

    def processes(self, name: str = "") -> list[Process]:
        """Those of the command now, itself included, whose command line has ``name`` in it."""
        present = {process.pid: process for process in all_processes()}
        self._known = {pid: present[pid] for pid, one in self._known.items() if present.get(pid) == one}
        roots = {self.process.pid}
        for _ in range(6):
            ours = {one.pid: one for one in present.values() if one.pid in roots or one.parent in roots}
            roots |= ours.keys() | self._known.keys()
        self._known |= ours
        return [one for one in self._known.values() if name in one.command]

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """As `until`, while the command runs."""

        def going() -> Any:
            assert self.process.poll() is None, f"it ended before {what}:\n{self.said}"
            self.processes()
            return condition()

        return until(going, what)

    def wait_for_cells(self, number: int) -> int:
        """Until so many cells have a row; how many there are then."""
        return int(self.wait_for(lambda: _at_least(finished_cells(self.results), number), f"{number} cells"))

    def kill_driver(self) -> None:
        """Kill -9 of the command itself; its Ray goes away by itself."""
        self.processes()
        self.process.kill()
        self.process.wait()
        until(lambda: all(one.command.startswith(LATE) for one in self.processes()), "the end of Ray")

    def kill(self, name: str) -> int:
        """Kill -9 of all its processes whose command line has ``name`` in it; how many there were."""
        found = self.processes(name)
        for process in found:
            process.kill()
        return len(found)

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """As a terminal does it, for all processes of its group."""
        os.killpg(self.process.pid, number)

    def end(self, seconds: float = PATIENCE) -> int:
        """Its exit status; no process of it may stay."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end:\n{self.said}"
            self.processes()
            time.sleep(0.2)
        until(lambda: not self.processes(), f"the end of {[one.command for one in self.processes()]}")
        return int(self.process.returncode)

    @property
    def said(self) -> str:
        """Standard output and error."""
        return self._said.read_text()

    @property
    def summary(self) -> Row:
        """What `SweepRun.execute` returned."""
        return dict(json.loads(self._summary.read_text()))

    @property
    def status(self) -> SweepStatus:
        """As `theriac status` sees it."""
        (found,) = sweep_status(self.results)
        return found


def _at_least(found: int, wanted: int) -> int:
    return found if found >= wanted else 0
