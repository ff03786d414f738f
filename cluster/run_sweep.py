"""Run a sweep: what is missing of its cells, on a local Ray or a cluster, row by row into the results."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray

from .. import __version__
from ..datasets.own_code import shipped_code
from ..datasets.sources import data_folder
from ..errors import BadInput, printable
from ..rows import Row
from ..search.dampening_run import Progress
from ..search.plan import SweepPlan, actors_that_fit, measure_costs, measured_peak, plan_sweep, refined
from ..search.report import FAILED, SWEEPS, counted
from ..search.store import (
    ArtifactStore,
    ResultsStore,
    compact,
    masked_word,
    provenance,
    remove_stale,
    row_key,
    upgrade,
    write_atomically,
)
from ..search.sweep import CellRows, Schedule, Sweep, Task, describer, dump_sweep
from .actors import ActorSettings
from .conductor import Conductor
from .devices import choose_device
from .fleet import Fleet, smallest_gpu
from .interrupts import Interrupts
from .loggers import CellLogger
from .options import Device, Where
from .preflight import check_store
from .searcher import fan_out
from .session import ray_session
from .watch import Reporter, Silent, Watch

KIND = "accelerator_type:"

__all__ = ["Summary", "SweepRun", "finished_keys"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    Attributes:
        keys: of the rows of all cells, in the order of the cells.
        computed: cells computed now; the others were in the results already, or are still missing.
        failed: cells of any age whose status is "failed" or "gate_failed".
        missing: cells without a row: one that was written has been lost since.
        counts: jobs done, settings evaluated and so on, see `schedule.Counts`; "working" is the wall-clock
            from the first job to the last answer.
    """

    keys: tuple[str, ...]
    computed: int
    failed: int
    missing: int
    counts: dict[str, float]


class SweepRun(Where, arbitrary_types_allowed=True):
    """A sweep, where its rows go, and where it runs.

    Attributes:
        sweep: what to compute.
        directory: of the results.
        fresh: compute cells again that are in the results already.
        log: is given the row of every finished cell; None: nobody is.
    """

    sweep: Sweep
    directory: Path
    fresh: bool = False
    log: CellLogger | None = None

    def execute(self, reporter: Reporter | None = None, *, verbose: bool = False) -> Summary:
        """Compute the cells that are missing.

        Args:
            reporter: is told how the work goes on.
            verbose: let Ray and Tune log.

        Raises:
            BadInput: the results cannot be written, the dataset is missing, or the cluster is of no use.
        """
        results, tasks = ResultsStore(self.directory), self.sweep.tasks()
        upgrade(results, describer(results))
        keys = tuple(task.key for task in tasks)
        present = set() if self.fresh else finished_keys(results, keys)
        missing = [task for task in tasks if task.key not in present]
        counts: dict[str, float] = {}
        if missing:
            with closing(self.log) if self.log else nullcontext():
                counts = self._compute(missing, tasks, results, reporter or Silent(), verbose)
        return _summary(results, keys, present, counts)

    def _compute(
        self,
        missing: Sequence[Task],
        tasks: Sequence[Task],
        results: ResultsStore,
        reporter: Reporter,
        verbose: bool,
    ) -> dict[str, float]:
        if self.address is None and not ray.is_initialized():
            choose_device(self.device)  # a local Ray has what this machine has
        store = ArtifactStore(self.directory if self.store is None else self.store)
        store.remove_leftovers()
        remove_stale(self.directory)
        reporter.say("starting Ray")
        with ray_session(self.address, self.workers or _own_workers(), verbose=verbose):
            _check_nodes(store)
            device = _device(self.device)
            run = self._register(results, tasks, device)
            with self._fleet(store, device) as fleet:
                reference, size = self.sweep.scoring.reference, len(fleet.members)
                schedule = Schedule(missing, reference=reference, workers=size)
                measured = results.read("searches").to_pylist()
                recorder = _Recorder(results, run, self.sweep.name, self.log, measured)
                conductor = Conductor(schedule, fleet, recorder.record)
                watch = Watch(
                    conductor,
                    self.sweep,
                    run,
                    directory=self.directory,
                    tasks=tasks,
                    missing=missing,
                    measured=measured,
                    reporter=reporter,
                )
                with watch, Interrupts(conductor, reporter):
                    fan_out(conductor, verbose=verbose)
        compact(results, least=2)
        return {
            **{f"{sort} jobs": number for sort, number in sorted(schedule.counts.jobs.items())},
            "settings": schedule.counts.settings,
            "search_jobs": schedule.counts.search_jobs,
            "retried": schedule.counts.retried,
            "busy": schedule.counts.busy,
            "working": conductor.ended - conductor.begun,
            "lost_workers": fleet.lost,
        }

    @contextmanager
    def _fleet(self, store: ArtifactStore, device: str) -> Iterator[Fleet]:
        settings = ActorSettings(
            store=store.location,
            data_root=str(data_folder(self.data).absolute()),  # other nodes lack this one's variables
            device=device,
            scoring=self.sweep.scoring.model_dump_json(),
            code=shipped_code(),
        )
        per_gpu = self.per_gpu or (self._fitting() if device == "cuda" else 1)
        fleet = Fleet(settings, size=self.workers, per_gpu=per_gpu)
        try:
            yield fleet
        finally:
            fleet.stop()

    def _fitting(self) -> int:
        """Count the workers that fit on the smallest GPU, by earlier runs; 1 where nothing is known."""
        scenarios = [task.scenario for task in self.sweep.tasks()]
        peak = measured_peak(ResultsStore(self.directory, create=False), scenarios)
        return 1 if peak is None else max(1, actors_that_fit(smallest_gpu(), peak))

    def _register(self, results: ResultsStore, tasks: Sequence[Task], device: str) -> str:
        """Write a row of `runs`, and the sweep as run, for `theriac status`."""
        started = datetime.now(UTC)
        text = dump_sweep(self.sweep)
        key = row_key(text, started.isoformat(), os.getpid())
        row = {
            "key": key,
            "started_at": started,
            "command": " ".join(["theriac", *map(masked_word, sys.argv[1:])]),
            "configuration": text,
            "seed": tasks[0].scenario.seed,
            **provenance(device),
            **_accelerators(),
        }
        results.append("runs", [row])
        file = self.directory / SWEEPS / f"{self.sweep.key}.yaml"
        try:
            write_atomically(file, lambda path: _write(path, text))
        except OSError as error:
            raise BadInput(f"cannot write {file} ({error}); free space or name another folder") from error
        return key


@dataclass(frozen=True)
class _Recorder:
    """Writes the rows of finished cells, those of run ``run`` of a sweep, and adds them to ``measured``."""

    results: ResultsStore
    run: str
    sweep: str
    log: CellLogger | None
    measured: list[Row]

    def record(self, task: Task, rows: CellRows) -> None:
        """Record the steps first: a search that is in the results is whole."""
        self.results.append("steps", rows.steps)
        self.results.append("searches", [{**rows.search, "run": self.run, "sweep": self.sweep}])
        self.measured.append(rows.search)
        if self.log:
            self.log.cell(rows.search)


def preview(run: SweepRun) -> str:
    """Write the sweep as YAML, with the number of its cells and of those already in the results."""
    tasks = run.sweep.tasks()
    present: set[str] = set()
    if run.directory.is_dir():
        present = finished_keys(ResultsStore(run.directory, create=False), [task.key for task in tasks])
    victims = counted(len({task.scenario.key for task in tasks}), "victim")
    shown = f"{counted(len(tasks), 'cell')} on {victims}; {len(present)} are in {run.directory} already"
    return f"{dump_sweep(run.sweep)}# {printable(shown)}"


def estimate(
    sweep: Sweep, directory: Path, data: Path | None, device: Device, *, seconds: float, progress: Progress
) -> SweepPlan:
    """Plan what is missing of a sweep, by a few timed batches on this machine.

    Args:
        sweep: what to compute.
        directory: of the results; their cells are left out, and their measurements refine the estimate.
        data: folder of the datasets; None for the default.
        device: where to measure.
        seconds: how long, for each sort of scenario.
        progress: called with (phase, done, total).

    Raises:
        BadInput: a dataset is missing, or the device.
    """
    tasks, rows, finished = sweep.tasks(), [], set[str]()
    where = choose_device(device).type
    costs = measure_costs(tasks, data_root=data, device=where, seconds=seconds, progress=progress)
    if directory.is_dir():
        results = ResultsStore(directory, create=False)
        rows = results.read("searches").to_pylist()
        finished = finished_keys(results, [task.key for task in tasks])
    return plan_sweep(sweep, refined(costs, tasks, rows) if rows else costs, finished=finished)


def verdict(summary: Summary, directory: Path) -> str:
    """Say in a line what a run of a sweep did."""
    present = len(summary.keys) - summary.computed - summary.missing
    parts = [f"{summary.computed} cells computed", f"{present} already there"]
    parts += [f"{summary.missing} lost: run the same command again"] if summary.missing else []
    parts += [f"{summary.failed} failed: see `theriac status {directory}`"] if summary.failed else []
    return f"{', '.join(parts)}; theriac table {directory}"


def finished_keys(results: ResultsStore, keys: Sequence[str]) -> set[str]:
    """Return the keys of cells that this version of theriac has computed.

    Failed ones are left out, and those of a victim that failed its gate: the gate may be another one now.
    """
    runs = results.read("runs", columns=["versions"]).to_pylist()
    current = {row["key"] for row in runs if f'"theriac": "{__version__}"' in (row["versions"] or "")}
    return {
        row["key"]
        for row in _rows_of(results, keys, ["run", "status"])
        if row["run"] in current and row["status"] not in FAILED
    }


def _rows_of(results: ResultsStore, keys: Sequence[str], columns: Sequence[str]) -> list[Row]:
    """Return these columns of the rows of ``searches`` with these keys."""
    rows = results.read("searches", columns=columns)
    found: list[Row] = rows.filter(pc.is_in(rows["key"], pa.array(keys, pa.string()))).to_pylist()
    return found


def _summary(
    results: ResultsStore, keys: tuple[str, ...], present: set[str], counts: dict[str, float]
) -> Summary:
    statuses = {row["key"]: row["status"] for row in _rows_of(results, keys, ["status"])}
    return Summary(
        keys=keys,
        computed=len(statuses.keys() - present),
        failed=sum(status in FAILED for status in statuses.values()),
        missing=len(keys) - len(statuses),
        counts=counts,
    )


def _device(wanted: Device) -> str:
    if wanted != "auto":
        return wanted
    return "cuda" if ray.cluster_resources().get("GPU") else "cpu"  # type: ignore[no-untyped-call]


def _accelerators() -> dict[str, str]:
    """Name the GPUs of the cluster, which are not those of this machine, where there are any."""
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    kinds = sorted(name.removeprefix(KIND) for name in resources if name.startswith(KIND))
    return {"device": f"{resources['GPU']:g} x {', '.join(kinds)}"} if kinds and "GPU" in resources else {}


def _own_workers() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_nodes(store: ArtifactStore) -> None:
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    check_store(store.location, [(node["NodeID"], node["NodeManagerAddress"]) for node in nodes])


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
