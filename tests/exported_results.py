"""Results of small searches with and without trials, for tests of exports: nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from theriac.search.store import ResultsStore, row_key
from theriac.search.sweep import Task, failed_row, load_sweep


def task_of(sweep: str, method: str, search: str, **overrides: Any) -> Task:
    """The first task of a sweep with this method and search."""
    changes = [f"{name}={json.dumps(value)}" for name, value in overrides.items()]
    tasks = load_sweep(sweep, changes).tasks()
    return next(task for task in tasks if (task.cell.method, task.cell.search) == (method, search))


def search_row(task: Task, **columns: Any) -> dict[str, Any]:
    """The row of a cell, with what is always there."""
    row = failed_row(task.scenario, task.cell, "", "")
    del row["error_class"], row["error_message"]
    scores = {"clean_accuracy": 0.9, "asr": 0.05, "healed_raw": 0.8, "healed": 96.0, "damage": -1.0}
    before = {"forget_accuracy_before": 1.0, "clean_accuracy_before": 0.91, "asr_before": 1.0}
    return {**row, **scores, **before, "forget_accuracy": 0.2, "status": "stopped", "sweep": "s", **columns}


def step_rows(search: dict[str, Any], *steps: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a search's settings."""
    own = {"search": search["key"], "after_stop": False}
    return [
        {"key": row_key(search["key"], number), "step": number, **own, **step}
        for number, step in enumerate(steps)
    ]


def trial(steps: int, rate: float, forgot: float, agreement: float, **more: Any) -> dict[str, Any]:
    """A finished run of gradient ascent; rho is 0.2."""
    parameters = json.dumps({"learning_rate": rate, "steps": steps, "momentum": 0.0})
    score = -abs(forgot - 0.2) + agreement - 1.0
    measured = {"forget_accuracy": forgot, "agreement": agreement, "score": score, "healed_raw": 0.7}
    return {"parameters": parameters, "status": "done", "seconds": 2.5, **measured, **more}


TRIALS = (
    trial(100, 1e-4, 0.6, 0.99, pareto=True),
    trial(50, 2e-4, 0.2, 0.97, pareto=True, selection_healed_raw=0.6),
    trial(200, 9e-4, 0.2, 0.98, status="collapsed", pareto=True),
    {"parameters": '{"learning_rate": 0.001, "steps": 300}', "status": "failed", "error_message": "NaN"},
)
"""The second is the best that may be taken; the third would be better, but wrecks the model."""


def tuned(method: str = "ga", **settings: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A search by TPE over a method that trains, and its settings."""
    task = task_of("digits-methods", method, "tpe", settings={"samples": 4, **settings})
    row = search_row(
        task,
        steps=len(TRIALS),
        parameters=TRIALS[1]["parameters"],
        score=TRIALS[1]["score"],
        objective="deployable",
    )
    return row, step_rows(row, *TRIALS)


def pairs(search: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A grid or TPE over alpha and lambda, and its settings."""
    task = task_of("digits", "ssd", search, searches=["ptn", search])
    drawn = [(10.0, 50.0, 0.1), (10.0, 1.0, 0.4), (0.3, 0.15, 0.9)]
    steps = [
        {
            "alpha": alpha,
            "dampening_constant": constant,
            "dampened": 10,
            "score": score,
            "held_out_accuracy": 0.9,
        }
        for alpha, constant, score in drawn
    ]
    row = search_row(task, steps=3, alpha=0.3, dampening_constant=0.15)
    return row, step_rows(row, *steps)


def ptn() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A PTN search, which has no trials."""
    row = search_row(task_of("digits", "ssd", "ptn"), steps=1, alpha=1.0, dampening_constant=1.0)
    return row, step_rows(row, {"alpha": 1.0, "dampening_constant": 1.0, "forget_accuracy": 0.2})


def stored(folder: Path, *searches: tuple[dict[str, Any], list[dict[str, Any]]]) -> Path:
    """Write searches and their settings into a results folder."""
    store = ResultsStore(folder)
    for row, steps in searches:
        store.append("steps", steps)
        store.append("searches", [row])
    store.append("runs", [{"key": "r", "command": "=1+1", "seed": 0}])
    return folder
