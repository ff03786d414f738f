"""What a sweep will take, before it is begun: cells, device-hours, memory, disk, and time by workers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ConfigDict

from ...rows import Row
from ..searches import SEARCH_ENTRIES
from ..sweep import ImportancePart, Sweep, Task
from .costs import Costs, ScenarioSort, large_sets, pace_name
from .gpu_sharing import actors_that_fit
from .simulation import OVERHEAD, START_SECONDS, Simulated, simulate
from .work import SmallPart, made_by

WORKERS = (1, 2, 8, 64)
CELL_BYTES, SETTING_BYTES = 14_000, 100
"""Of the results, before parts are merged; measured on digits."""


class Disk(BaseModel):
    """Bytes that a sweep adds.

    Attributes:
        models: trained.
        importances: that stay.
        shards: at most, while importances of large sets are put together; gone afterwards.
        results: Parquet.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: int
    importances: int
    shards: int
    results: int


class Scale(BaseModel):
    """The sweep with so many workers.

    Attributes:
        workers: how many.
        seconds: from the command to the last row.
        first_result: seconds from the command to the first row.
        efficiency: time of one worker / (workers * time of these), the start of Ray aside.
        busy: mean share of the time that a worker has a job.
        driver: share of the time that the driver gives out jobs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int
    seconds: float
    first_result: float | None
    efficiency: float
    busy: float
    driver: float


class SweepPlan(BaseModel):
    """What a sweep will take.

    Attributes:
        name: of the sweep.
        device: that the costs are of.
        cells: in all.
        finished: of them, in the results already; the rest of the plan leaves them out.
        victims: to have, trained or not.
        trainings: model -> how many are to be trained: victim, clean, retain (EU).
        importances: set -> how many are to be computed, of one kind each: "S_tr", "retain", "S_m pieces",
            "S_f".
        searches: to run, by search.
        settings: expected, by search.
        device_seconds: of one worker, by part of the work; all of them together.
        peak_memory: bytes of a worker.
        device_memory: bytes of the GPU; None on a CPU.
        actors_per_gpu: that fit on it; None on a CPU.
        disk: bytes.
        scaling: wall clock by workers.
        assumed: in sentences.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    device: str
    cells: int
    finished: int
    victims: int
    trainings: dict[str, int]
    importances: dict[str, int]
    searches: dict[str, int]
    settings: dict[str, int]
    device_seconds: dict[str, float]
    peak_memory: int
    device_memory: int | None
    actors_per_gpu: int | None
    disk: Disk
    scaling: tuple[Scale, ...]
    assumed: tuple[str, ...]

    @property
    def device_hours(self) -> float:
        """Add up the hours of one device for everything."""
        return math.fsum(self.device_seconds.values()) / 3600


def plan_sweep(
    sweep: Sweep,
    costs: Costs,
    *,
    finished: Collection[str] = (),
    workers: Sequence[int] = WORKERS,
    overhead: float = OVERHEAD,
    start_seconds: float = START_SECONDS,
) -> SweepPlan:
    """Plan what is missing of a sweep.

    Args:
        sweep: what to compute.
        costs: see `plan_measure.measure_costs`, and `refined`.
        finished: keys of cells that are in the results.
        workers: numbers of workers to simulate, each at least 1.
        overhead: seconds of the driver for each job.
        start_seconds: from the command to the first job.
    """
    tasks = sweep.tasks()
    left, done = _parted(tasks, finished)
    runs = {
        count: simulate(
            left,
            costs,
            count,
            reference=sweep.scoring.reference,
            overhead=overhead,
            start_seconds=start_seconds,
            finished=done,
            scored_steps=sweep.scoring.steps,
        )
        for count in dict.fromkeys((1, *workers))
    }
    new = _new(left, done, sweep.scoring.reference)
    return SweepPlan(
        name=sweep.name,
        device=costs.device,
        cells=len(tasks),
        finished=len(done),
        victims=len({task.scenario for task in left}),
        trainings=_counted(thing[1].name for thing in new if not isinstance(thing[1], ImportancePart)),
        importances=_counted(_set_name(thing[1]) for thing in new if isinstance(thing[1], ImportancePart)),
        searches=_counted(task.cell.search for task in left if task.cell.search),
        settings=_settings(left, costs),
        device_seconds=runs[1].phases,
        peak_memory=costs.peak_memory,
        device_memory=costs.device_memory,
        actors_per_gpu=_actors(costs),
        disk=_disk(new, left, costs),
        scaling=tuple(_scale(runs[count], runs[1], start_seconds) for count in workers),
        assumed=(*_assumed(left, done, costs, overhead, start_seconds), *costs.notes),
    )


def _parted(tasks: Sequence[Task], finished: Collection[str]) -> tuple[list[Task], list[Task]]:
    """Part the tasks into those to do and those that are done."""
    over = [bool(finished) and task.key in finished for task in tasks]
    left = [task for task, there in zip(tasks, over, strict=True) if not there]
    return left, [task for task, there in zip(tasks, over, strict=True) if there]


def refined(costs: Costs, tasks: Sequence[Task], rows: Iterable[Row]) -> Costs:
    """Refine costs with what cells of the same scenarios took before, on the same device.

    Seconds of a training and of a setting replace the measured ones of all scenarios of their sort; mean
    steps of a PTN search replace the assumed ones of their method and granularity; the largest peak memory
    counts.

    Args:
        costs: measured.
        tasks: of the sweep.
        rows: of ``searches``; those of other scenarios and failed ones are passed over.
    """
    sorts = {task.scenario.key: ScenarioSort.of(task.scenario) for task in tasks}
    used = [
        row for row in rows if row["scenario"] in sorts and row["status"] not in ("failed", "gate_failed")
    ]
    if not used:
        return costs
    by_sort: dict[ScenarioSort, list[Row]] = defaultdict(list)
    for row in used:
        by_sort[sorts[row["scenario"]]].append(row)
    changed = {
        sort: replace(
            costs.sorts[sort],
            training=_mean(row["seconds_victim"] for row in found) or costs.sorts[sort].training,
            measured_setting=_paces(found),
        )
        for sort, found in by_sort.items()
    }
    sorted_rows: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for row in used:
        entry = SEARCH_ENTRIES.get(row["search"])
        if entry and not entry.expected.counted and row["steps"]:
            sorted_rows[row["search"], row["method"], row["granularity"]].append(row["steps"])
    return replace(
        costs,
        sorts={**costs.sorts, **changed},
        steps={sort: sum(steps) / len(steps) for sort, steps in sorted_rows.items()},
        peak_memory=max([costs.peak_memory, *(row["peak_memory"] or 0 for row in used)]),
        notes=(*costs.notes, f"{len(used)} cells of earlier runs gave trainings, settings and steps"),
    )


def _paces(rows: Sequence[Row]) -> dict[str, float]:
    """Return `pace_name` -> seconds of a setting."""
    pairs: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for row in rows:
        if row["search"] and row["seconds_search"] is not None and row["steps"]:
            name = pace_name(row["method"], row["search"])
            pairs[name].append((row["seconds_search"], row["steps"]))
    return {
        name: math.fsum(seconds for seconds, _ in known) / sum(steps for _, steps in known)
        for name, known in pairs.items()
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _new(left: Sequence[Task], done: Sequence[Task], reference: bool) -> list[Any]:
    """List what has to be made: (scenario, `Part` or `ImportancePart` of one kind), each once."""
    there: set[Hashable] = {thing for task in done for thing in made_by(task, reference)}
    wanted = dict.fromkeys(thing for task in left for thing in made_by(task, reference))
    return [thing for thing in wanted if thing not in there]


def _set_name(part: ImportancePart) -> str:
    if not isinstance(part, SmallPart):
        return part.of
    return "S_m pieces" if part.granularity == "sample" else "S_f"


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _settings(tasks: Sequence[Task], costs: Costs) -> dict[str, int]:
    """Count the expected settings by search; `simulate` with one worker evaluates as many."""
    counts: dict[str, int] = {}
    for task in tasks:
        settings = task.cell.settings
        if settings:
            expected = counts.get(settings.search, 0) + costs.expected_settings(settings)
            counts[settings.search] = expected
    return counts


def _actors(costs: Costs) -> int | None:
    if costs.device_memory is None:
        return None
    return actors_that_fit(costs.device_memory, costs.peak_memory)


def _disk(new: Sequence[Any], left: Sequence[Task], costs: Costs) -> Disk:
    models = importances = 0
    for scenario, what in new:
        one = costs.of(scenario)
        if isinstance(what, ImportancePart):
            importances += one.importance_bytes
        else:
            models += one.model_bytes
    return Disk(
        models=models,
        importances=importances,
        shards=max((_shards(tasks, costs) for tasks in _by_scenario(left)), default=0),
        results=CELL_BYTES * len(left) + SETTING_BYTES * sum(_settings(left, costs).values()),
    )


def _shards(tasks: Sequence[Task], costs: Costs) -> int:
    """Count the bytes of all shards of a scenario."""
    one = costs.of(tasks[0].scenario)
    parts = large_sets(tasks, one.train_count)
    return sum(len(part.kinds) * one.importance_bytes for part in parts if part.shard is not None)


def _by_scenario(tasks: Iterable[Task]) -> Iterable[list[Task]]:
    groups: dict[Hashable, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.scenario, []).append(task)
    return groups.values()


def _scale(run: Simulated, alone: Simulated, start: float) -> Scale:
    length = run.makespan - start
    return Scale(
        workers=run.workers,
        seconds=run.makespan,
        first_result=run.first_result,
        efficiency=(alone.makespan - start) / (run.workers * length) if length else 1.0,
        busy=sum(run.busy) / len(run.busy),
        driver=run.driver_seconds / length if length else 0.0,
    )


def _measured_steps(search: str, costs: Costs) -> str:
    known = [
        f"{method} {granularity} {mean:.0f}"
        for (name, method, granularity), mean in (costs.steps or {}).items()
        if name == search
    ]
    return f", measured: {', '.join(known)}" if known else ""


def _assumed(
    left: Sequence[Task], done: Sequence[Task], costs: Costs, overhead: float, start: float
) -> list[str]:
    searches = {task.cell.search for task in left}
    found = [
        *(
            entry.expected.assumed + _measured_steps(name, costs)
            for name, entry in SEARCH_ENTRIES.items()
            if name in searches
        ),
        "every victim passes its gate; nothing fails; workers keep what they have loaded and do not slow each"
        " other down",
        f"{start:g} s to start Ray, {1000 * overhead:g} ms of the driver for each job, one job after another",
    ]
    if done:
        found.append("models and importances of finished cells are in the store")
    return found
