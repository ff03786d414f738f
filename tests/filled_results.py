"""Rows of whole sweeps with made-up scores, for tests of tables: nothing is trained."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from theriac.search.store import ResultsStore
from theriac.search.sweep import Task, failed_row, load_sweep

Change = Callable[[Task, dict[str, Any]], dict[str, Any]]


def filled_rows(
    preset: str, overrides: Sequence[str] = (), *, where: Callable[[Task], bool] = lambda _: True
) -> list[dict[str, Any]]:
    """Return a row for every task of a sweep, with scores that its seed, share and method determine."""
    sweep = load_sweep(preset, overrides)
    return [{**scored(task), "sweep": sweep.name} for task in sweep.tasks() if where(task)]


def scored(task: Task) -> dict[str, Any]:
    draw = random.Random(task.key)
    row = failed_row(task.scenario, task.cell, "", "")
    del row["error_class"], row["error_message"]
    before = {"clean_accuracy_before": 0.9, "asr_before": 0.95, "healed_raw_before": 0.1}
    after = {"clean_accuracy": 0.9 - draw.random() / 20, "asr": draw.random() / 5, "healed_raw": 0.8}
    times = {"seconds_victim": 100.0, "seconds_importance": 3.0, "seconds_search": 1.0 + draw.random()}
    chosen = {"alpha": 10 * draw.random(), "dampening_constant": 1.0, "steps": 20} if task.cell.search else {}
    damage, healed = -5 * draw.random(), 90 + 9 * draw.random()
    status = "stopped" if task.cell.search else "done"
    return {**row, **before, **after, **times, **chosen, "damage": damage, "healed": healed, "status": status}


def write(directory: Path, rows: Sequence[dict[str, Any]]) -> Path:
    ResultsStore(directory).append("searches", rows)
    return directory
