"""Run the cells of a scenario on Ray workers, and write each row as soon as it is there."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import ray

from .. import __version__
from ..errors import BadInput
from ..search.artifacts import ArtifactStore
from ..search.experiment import CellRows, Experiment, Part
from ..search.provenance import provenance, row_key
from ..search.results import ResultsStore
from ..search.scenarios import Cell, Scenario
from .fanout import Reporter, Silent, fan_out
from .workers import Worker

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
    """

    scenario: Scenario
    cells: tuple[Cell, ...]
    directory: Path
    data_root: Path | None = None
    device: str = "cpu"
    fresh: bool = False

    def execute(self, workers: int, reporter: Reporter | None = None) -> Summary:
        """Train what is missing, run the cells that are missing; needs a running Ray.

        Raises:
            BadInput: the results cannot be written, the dataset is missing, or a model cannot be trained.
        """
        reporter = reporter or Silent()
        results, store = ResultsStore(self.directory), ArtifactStore(self.directory)
        experiment = Experiment(self.scenario, store, data_root=self.data_root)
        keys = tuple(experiment.key(cell) for cell in self.cells)
        finished = set() if self.fresh else _finished(results, keys)
        missing = [cell for cell, key in zip(self.cells, keys, strict=True) if key not in finished]
        if missing:
            actors = self._actors(store, min(workers, len(missing)))
            self._train(actors, reporter)
            self._run(actors, missing, experiment, results, reporter)
        return Summary(keys=keys, computed=len(missing), failed=_failures(results, keys))

    def _actors(self, store: ArtifactStore, count: int) -> list[Any]:
        data_root = None if self.data_root is None else str(self.data_root.absolute())
        arguments = (self.scenario.model_dump_json(), str(store.root), data_root, self.device)
        actor = ray.remote(Worker).options(**ACTOR_OPTIONS)
        return [actor.remote(*arguments) for _ in range(count)]

    def _train(self, actors: Sequence[Any], reporter: Reporter) -> None:
        """The victim and the clean reference side by side; every cell needs both."""
        parts = (Part("victim"), Part("clean"))
        jobs = [partial(_train_on, part=part) for part in parts]
        for _, result in fan_out(actors, jobs, "training", reporter):
            if isinstance(result, BadInput):
                raise result
            if isinstance(result, BaseException):
                raise BadInput(
                    f"training failed: {type(result).__name__}: {result}; change the recipe or free memory"
                ) from result

    def _run(
        self,
        actors: Sequence[Any],
        cells: Sequence[Cell],
        experiment: Experiment,
        results: ResultsStore,
        reporter: Reporter,
    ) -> None:
        run = self._register(results)
        jobs = [partial(_run_on, cell=cell.model_dump_json()) for cell in cells]
        for number, result in fan_out(actors, jobs, "cells", reporter):
            if isinstance(result, BaseException):
                result = CellRows(search=experiment.failed(cells[number], result), steps=[])
            results.append("steps", result.steps)
            results.append("searches", [{**result.search, "run": run}])

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
    return actor.run.remote(cell, True)


def _finished(results: ResultsStore, keys: tuple[str, ...]) -> set[str]:
    """Cells that this version of theriac has computed, failed ones left out."""
    current = {
        row["key"]
        for row in results.read("runs").select(["key", "versions"]).to_pylist()
        if json.loads(row["versions"] or "{}").get("theriac") == __version__
    }
    rows = results.read("searches").select(["key", "run", "status"]).to_pylist()
    return {
        row["key"]
        for row in rows
        if row["key"] in keys and row["run"] in current and row["status"] != "failed"
    }


def _failures(results: ResultsStore, keys: tuple[str, ...]) -> int:
    searches = results.read("searches")
    mine = searches.filter(pc.field("key").isin(list(keys)))
    return sum(status in ("failed", "gate_failed") for status in mine["status"].to_pylist())
