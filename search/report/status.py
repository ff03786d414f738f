"""How sweeps stand: what their drivers wrote last, and what the results say by now."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from ...errors import BadInput
from ...rows import Row
from ..store import SMALL_BYTES, ResultsStore, check_file
from ..sweep import Task, load_sweep
from .progress import Failure, Running, SweepProgress, SweepStatus, is_gone
from .status_lines import status_text

__all__ = [
    "Failure",
    "Running",
    "Standing",
    "SweepProgress",
    "SweepStatus",
    "estimate_left",
    "standings",
    "status_json",
    "status_text",
    "sweep_status",
]


FAILED = ("failed", "gate_failed")
"""Statuses of cells that the same command would run again."""
SWEEPS = "sweeps"
"""The folder of a results directory that holds the sweeps as run, and their progress."""
LOST_AFTER = timedelta(seconds=30)
"""A driver writes every 2 seconds; one that has been silent for so long is gone. So is one that has ended."""
LONGEST = 1e12
PHASES = ("seconds_importance", "seconds_search", "seconds_evaluation")
PLACE = ("dataset", "model", "method", "granularity", "search")
MOST_MEASURED = 20_000
"""The time left is estimated from so many cells, the newest."""
COLUMNS = (*PLACE, "scenario", "seconds_victim", *PHASES, "status", "error_class", "error_message")
"""Columns of ``searches`` that tell how a sweep stands."""


class Standing(NamedTuple):
    """How a sweep stands, and what of it is missing.

    Attributes:
        status: as `sweep_status` reports it.
        missing: cells without a row, those that workers are at included.
    """

    status: SweepStatus
    missing: tuple[Task, ...]


def sweep_status(directory: Path, *, now: datetime | None = None) -> tuple[SweepStatus, ...]:
    """Report all sweeps that were ever run into ``directory``, in order of their last sign of life.

    Files that cannot be read are named in `SweepStatus.problem`.

    Args:
        directory: of the results.
        now: what "silent for 30 seconds" is judged by; None for the present.

    Raises:
        BadInput: the directory does not exist, or holds results of another schema version.
    """
    return tuple(one.status for one in standings(directory, now=now))


def standings(directory: Path, *, now: datetime | None = None) -> tuple[Standing, ...]:
    """Report the same as `sweep_status`, each with the cells that are missing."""
    rows = ResultsStore(directory, create=False).read("searches", columns=COLUMNS, coded=True)
    folder, now = directory / SWEEPS, now or datetime.now(UTC)
    keys = {path.stem for path in folder.glob("[!.]*") if path.suffix in (".yaml", ".json")}
    found = [_standing(folder / key, rows, now) for key in sorted(keys)]
    return tuple(sorted(found, key=_sign_of_life))


def _sign_of_life(standing: Standing) -> datetime:
    progress = standing.status.progress
    return progress.updated_at if progress else datetime.min.replace(tzinfo=UTC)


def _standing(path: Path, rows: pa.Table, now: datetime) -> Standing:
    problems: list[str] = []
    name, tasks = _tasks(path.with_name(f"{path.name}.yaml"), problems)
    progress = _progress(path.with_name(f"{path.name}.json"), problems)
    state = _state(progress, now)
    alive = progress if state in ("running", "finishing") else None
    workers = progress.workers if progress else 1
    counted, missing = ({}, []) if tasks is None else _counted(tasks, rows, alive, workers)
    status = SweepStatus(
        sweep=path.name,
        name=progress.name if progress else name or path.name,
        state=state,
        progress=progress,
        configurations_per_second=_rate(progress),
        problem="; ".join(problems) or None,
        **({"left_seconds": alive.left_seconds} if alive and tasks is None else {}),
        **counted,
    )
    return Standing(status, tuple(missing))


def _tasks(path: Path, problems: list[str]) -> tuple[str | None, Sequence[Task] | None]:
    try:
        check_file(path, SMALL_BYTES)
        sweep = load_sweep(path)
        return sweep.name, sweep.tasks()
    except (ValueError, OSError, RecursionError, yaml.YAMLError) as error:
        problems.append(f"{path} cannot be read: {_one_line(error)}")
        return None, None


def _progress(path: Path, problems: list[str]) -> SweepProgress | None:
    try:
        return SweepProgress.read(path)
    except BadInput as error:
        problems.append(_one_line(error))
        return None


def _state(
    progress: SweepProgress | None, now: datetime
) -> Literal["running", "finishing", "finished", "interrupted", "lost", "unknown"]:
    if progress is None:
        return "unknown"
    silent = now - progress.updated_at > LOST_AFTER or is_gone(progress)
    return "lost" if silent and progress.state in ("running", "finishing") else progress.state


def _counted(
    tasks: Sequence[Task], rows: pa.Table, alive: SweepProgress | None, workers: int
) -> tuple[dict[str, Any], list[Task]]:
    """Count the cells of a sweep, and return those without a row."""
    keyed = {task.key: task for task in tasks}
    found = rows.filter(pc.is_in(rows["key"], pa.array(keyed, pa.string()))).to_pylist()
    failed = [row for row in found if row["status"] in FAILED]
    there = {row["key"] for row in found}
    missing = [task for key, task in keyed.items() if key not in there]
    running = min(len(missing), _at_work(alive))
    left = alive.left_seconds if alive else None
    counts = {
        "total": len(keyed),
        "done": len(found) - len(failed),
        "running": running,
        "failed": len(failed),
        "to_go": len(missing) - running,
        "left_seconds": _left(missing, rows, workers) if left is None else left,
        "failures": _failures(failed),
    }
    return counts, missing


def _left(missing: Sequence[Task], rows: pa.Table, workers: int) -> float | None:
    """Estimate the seconds left from the newest cells that were measured."""
    if not missing:
        return 0.0
    return estimate_left(missing, rows.slice(max(0, len(rows) - MOST_MEASURED)).to_pylist(), workers)


def _at_work(progress: SweepProgress | None) -> int:
    running = progress.running if progress else ()
    return len({(one.scenario, one.method, one.share) for one in running if one.method is not None})


def _failures(rows: Iterable[Row]) -> tuple[Failure, ...]:
    messages: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        messages[row["error_class"] or row["status"]].append(_one_line(row["error_message"] or ""))
    counted = [Failure(error_class=name, count=len(all_), message=all_[0]) for name, all_ in messages.items()]
    return tuple(sorted(counted, key=lambda failure: (-failure.count, failure.error_class)))


def _rate(progress: SweepProgress | None) -> float | None:
    return progress.configurations / progress.seconds if progress and progress.seconds > 0 else None


def estimate_left(tasks_to_go: Sequence[Task], searches_rows: Iterable[Row], workers: int) -> float | None:
    """Estimate the seconds that ``tasks_to_go`` will take, from measured cells; None if there are none.

    A cell takes the mean importance, search and evaluation time of the measured cells of the same dataset,
    model, method, granularity and search (of all searches on the dataset and model, if there is none); a
    scenario without any row has a victim to train, which takes the mean of the others. The sum is shared out
    evenly.

    Left out: clean references, the start of Ray, cells that are half done, importances that an earlier cell
    has computed already, differences between shares, and the end, when workers have nothing to do.

    Args:
        tasks_to_go: cells without a result.
        searches_rows: rows of ``searches``, null columns or none; failed ones are passed over.
        workers: how many work; at least 1.
    """
    rows = list(searches_rows)
    measured: dict[tuple[Any, ...], list[float]] = defaultdict(list)
    for row in rows:
        seconds = [row[name] for name in PHASES if _possible(row.get(name))]
        if seconds and row["status"] not in FAILED:
            place = row["dataset"], row["model"]
            measured[*place, row["method"], row["granularity"], row["search"]].append(math.fsum(seconds))
            if row["search"]:
                measured[place].append(math.fsum(seconds))
    cells = [_seconds(task, measured) for task in tasks_to_go]
    if None in cells:
        return None
    return (math.fsum(cells) + _victims(tasks_to_go, rows)) / max(1, workers)  # type: ignore[arg-type]


def _seconds(task: Task, measured: Mapping[tuple[Any, ...], Sequence[float]]) -> float | None:
    """Estimate the seconds of a cell like those measured.

    A baseline of a kind that was not measured takes as long as a search.
    """
    scenario, cell = task.scenario, task.cell
    place = scenario.dataset, scenario.model.name
    granularity = cell.dampening.granularity if cell.dampening else None
    known = measured.get((*place, cell.method, granularity, cell.search)) or measured.get(place)
    return _mean(known) if known else None


def _victims(tasks: Sequence[Task], rows: Sequence[Row]) -> float:
    trained = {row["scenario"]: row.get("seconds_victim") for row in rows}
    known = [seconds for seconds in trained.values() if seconds is not None and _possible(seconds)]
    scenarios = {id(task.scenario): task.scenario for task in tasks}  # a key is costly: one for each object
    missing = {scenario.key for scenario in scenarios.values()} - trained.keys()
    return len(missing) * _mean(known) if known else 0.0


def _possible(seconds: float | None) -> bool:
    """Tell whether something can have taken so long: not for ever, as a foreign row may say."""
    return seconds is not None and 0 <= seconds < LONGEST


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def status_json(status: Sequence[SweepStatus]) -> str:
    """Write the same for programs: a JSON list with one object for each sweep."""
    return json.dumps([one.model_dump(mode="json") for one in status], indent=2)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]
