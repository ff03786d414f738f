"""Do jobs one after another, and keep in memory between them what they share."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ...errors import BadInput, NotWritable
from ..dampening_run import Progress, silent
from ..stopwatch import peak_memory
from ..store import ArtifactStore, masked
from .cache import Keeper
from .cell_rows import CellRows
from .cells import treatment, untreated
from .jobs import Answer, Failure, ImportanceJob, Job, SearchJob, TrainJob, UntreatedJob
from .scenario import Scenario, Scoring
from .victim_bench import Experiment, Part


class JobRunner:
    """Holds victims, importances, S_f and test images on a device, as many as fit, and does jobs with them.

    Args:
        store: of models and importances.
        data_root: folder of the datasets; None for the default.
        device: where everything is computed.
        scoring: what is measured of a cell.
        budget: bytes to keep between jobs.
        progress: called with (phase, done, total or None).
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        data_root: Path | None = None,
        device: str = "cpu",
        scoring: Scoring | None = None,
        budget: int,
        progress: Progress = silent,
    ) -> None:
        self._store, self._data_root, self._device = store, data_root, device
        self._scoring, self._progress = scoring or Scoring(), progress
        self.keeper = Keeper(budget)
        self._rows: dict[str, CellRows] = {}

    def run(self, job: Job) -> Answer:
        """Do the job; what it raises becomes the answer's failure."""
        self.keeper.begin()
        start = time.perf_counter()
        with heard_warnings() as warnings:
            try:
                answer = self._do(job)
            except Exception as error:
                answer = Answer(failure=failure_of(error))
        measured = {
            "seconds": time.perf_counter() - start,
            "peak_memory": peak_memory(torch.device(self._device)),
            "warnings": tuple(dict.fromkeys(warnings)),
        }
        return answer.model_copy(update=measured)

    def collect(self, key: str) -> CellRows:
        """Return the rows of a finished cell, which are forgotten here.

        Raises:
            KeyError: they are not here: the process is a new one, or they were collected.
        """
        return self._rows.pop(key)

    def _do(self, job: Job) -> Answer:
        experiment = self._experiment(job.scenario)
        experiment.touch()
        if isinstance(job, TrainJob):
            return _train(experiment, job.part, self._progress)
        if isinstance(job, ImportanceJob):
            experiment.importances.prepare(job.part, self._progress)
            return Answer()
        if isinstance(job, UntreatedJob):
            self._rows[experiment.key(job.cell)] = untreated(experiment, job.cell, self._progress)
            return Answer(finished=True)
        return self._search(experiment, job)

    def _search(self, experiment: Experiment, job: SearchJob) -> Answer:
        treated = treatment(experiment, job.cell, self._progress)
        start = treated.start  # examination and importances are no part of the search's seconds
        found, seconds = _timed(lambda: treated.carry_on(job.history, job.skip, job.count))
        history = [*job.history, *found]
        finished = job.finish and start.place(history) is None
        if finished:
            self._rows[experiment.key(job.cell)] = treated.rows(history, job.seconds)
        return Answer(start=start, evaluated=tuple(found), search_seconds=seconds, finished=finished)

    def _experiment(self, scenario: Scenario) -> Experiment:
        return self.keeper.get(("scenario", scenario.model_dump_json()), lambda: self._open(scenario))

    def _open(self, scenario: Scenario) -> Experiment:
        return Experiment(
            scenario,
            self._store,
            data_root=self._data_root,
            device=self._device,
            scoring=self._scoring,
            keeper=self.keeper,
        )


@contextmanager
def heard_warnings() -> Iterator[list[str]]:
    """Hear what this thread logs as warnings of theriac in the body: in a worker nobody else would."""
    handler = _Ear(logging.WARNING)
    logger = logging.getLogger(__name__.partition(".")[0])
    logger.addHandler(handler)
    try:
        yield handler.heard
    finally:
        logger.removeHandler(handler)


class _Ear(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.heard: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.heard.append(masked(record.getMessage()))


def failure_of(error: BaseException) -> Failure:
    """Return an exception as a failure."""
    return Failure(
        error_class=type(error).__name__,
        message=masked(str(error)),
        bad_input=isinstance(error, BadInput),
        fatal=isinstance(error, NotWritable),
    )


def _train(experiment: Experiment, part: Part, progress: Progress) -> Answer:
    experiment.trained(part, progress)
    passed = experiment.gate_failure() is None if part.name == "victim" else None
    return Answer(train_count=len(experiment.data.train()), gate_passed=passed)


def _timed(do: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = do()
    return result, time.perf_counter() - start
