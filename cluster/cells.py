"""Run the cells of a scenario on Ray workers, and write each row as soon as it is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import ray

from .. import __version__
from ..errors import BadInput
from ..search.artifacts import ArtifactStore
from ..search.experiment import CellRows, Experiment, Part
from ..search.provenance import provenance, row_key
from ..search.results import ResultsStore
from ..search.scenarios import Cell, Scenario, Scoring
from .fanout import Pool, Reporter, Silent
from .session import local_ray
from .workers import Worker

FAILED = ("failed", "gate_failed")
PARTS = (Part("victim"), Part("clean"))

ACTOR_OPTIONS: dict[str, Any] = {
    "num_cpus": 1,
    "max_restarts": 3,
    "max_task_retries": 3,
    "max_concurrency": 2,
}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    Attributes:
        keys: of the rows of all cells, in the order of the cells.
        computed: cells computed now; the others were in the results already.
        failed: cells of any age whose status is "failed" or "gate_failed".
    """

    keys: tuple[str, ...]
    computed: int
    failed: int


@dataclass(frozen=True)
class _Recorder:
    """Writes the rows of finished cells, those of run ``run``."""

    experiment: Experiment
    results: ResultsStore
    run: str

    @property
    def store(self) -> ArtifactStore:
        """Where the models of the experiment are."""
        return self.experiment.store

    def record(self, cell: Cell, result: CellRows | BaseException) -> None:
        """Steps first: a search that is in the results is whole. An exception becomes a row "failed"."""
        if isinstance(result, BaseException):
            result = CellRows(search=self.experiment.failed(cell, result), steps=[])
        self.results.append("steps", result.steps)
        self.results.append("searches", [{**result.search, "run": self.run}])


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """The cells of one scenario, and where their rows go.

    Attributes:
        scenario: what determines the victim.
        cells: what to run on it.
        directory: of the results; trained models are kept in it as well.
        data_root: folder of the datasets; None for the default.
        device: "cpu" or "cuda".
        fresh: compute cells again that are in the results already.
        scoring: what is measured beside the scores of a cell's stop.
    """

    scenario: Scenario
    cells: tuple[Cell, ...]
    directory: Path
    data_root: Path | None = None
    device: str = "cpu"
    fresh: bool = False
    scoring: Scoring = field(default_factory=Scoring)

    def execute(self, workers: int, reporter: Reporter | None = None, *, verbose: bool = False) -> Summary:
        """Train what is missing and run the cells that are missing, on a local Ray if there are any.

        Args:
            workers: Ray workers, one CPU each; a Ray that this process has started already is used.
            reporter: is told how the work goes on.
            verbose: let Ray log.

        Raises:
            BadInput: the results cannot be written, or the dataset is missing.
        """
        results, store = ResultsStore(self.directory), ArtifactStore(self.directory)
        experiment = Experiment(self.scenario, store, data_root=self.data_root)
        keys = tuple(experiment.key(cell) for cell in self.cells)
        finished = set() if self.fresh else _finished(results, keys)
        missing = [cell for cell, key in zip(self.cells, keys, strict=True) if key not in finished]
        if missing:
            recorder = _Recorder(experiment, results, self._register(results))
            self._compute(missing, recorder, workers, reporter or Silent(), verbose)
        return Summary(keys=keys, computed=len(missing), failed=_failures(results, keys))

    def _compute(
        self, cells: Sequence[Cell], recorder: _Recorder, workers: int, reporter: Reporter, verbose: bool
    ) -> None:
        """The victim and any clean reference side by side, then the cells, which need them."""
        reporter.begin("starting Ray", 1)
        with local_ray(workers, verbose=verbose):
            parts = PARTS[: 1 + self.scoring.reference]
            pool = Pool(partial(self._actor, recorder.store), min(workers, max(len(cells), len(parts))))
            jobs = [partial(_train_on, part=part) for part in parts]
            failures = [error for _, error in pool.run(jobs, "training", reporter) if _is_failure(error)]
            for cell in cells if failures else ():
                recorder.record(cell, failures[0])
            jobs = [] if failures else [partial(_run_on, cell=cell.model_dump_json()) for cell in cells]
            for number, result in pool.run(jobs, "cells", reporter):
                recorder.record(cells[number], result)

    def _actor(self, store: ArtifactStore) -> Any:
        data_root = None if self.data_root is None else str(self.data_root.absolute())
        actor = ray.remote(Worker).options(**ACTOR_OPTIONS)
        scenario, scoring = self.scenario.model_dump_json(), self.scoring.model_dump_json()
        return actor.remote(scenario, str(store.root), data_root, self.device, scoring)

    def _register(self, results: ResultsStore) -> str:
        started = datetime.now(UTC)
        configuration = {
            "scenario": self.scenario.model_dump(mode="json"),
            "cells": [cell.model_dump(mode="json") for cell in self.cells],
        }
        key = row_key(configuration, started.isoformat())
        row = {
            "key": key,
            "started_at": started,
            "command": " ".join(["theriac", *sys.argv[1:]]),
            "configuration": json.dumps(configuration),
            "seed": self.scenario.seed,
            **provenance(self.device),
        }
        results.append("runs", [row])
        return key


def _train_on(actor: Any, part: Part) -> Any:
    return actor.train.remote(part)


def _run_on(actor: Any, cell: str) -> Any:
    return actor.run.remote(cell)


def _is_failure(result: Any) -> bool:
    """Whether a training raised; what the user can put right goes on to the user.

    Raises:
        BadInput: the training's own.
    """
    if isinstance(result, BadInput):
        raise result
    return isinstance(result, BaseException)


def _finished(results: ResultsStore, keys: tuple[str, ...]) -> set[str]:
    """Cells that this version of theriac has computed.

    Failed ones are left out, and those of a victim that failed its gate: the gate may be another one now.
    """
    current = {
        row["key"]
        for row in results.read("runs").select(["key", "versions"]).to_pylist()
        if json.loads(row["versions"] or "{}").get("theriac") == __version__
    }
    rows = results.read("searches").select(["key", "run", "status"]).to_pylist()
    return {
        row["key"]
        for row in rows
        if row["key"] in keys and row["run"] in current and row["status"] not in FAILED
    }


def _failures(results: ResultsStore, keys: tuple[str, ...]) -> int:
    rows = results.read("searches").select(["key", "status"]).to_pylist()
    return sum(row["key"] in keys and row["status"] in FAILED for row in rows)
