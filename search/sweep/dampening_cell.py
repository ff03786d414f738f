"""A dampening method on a victim, in instalments: what a cell of an experiment does."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from ...rows import Row
from ...unlearning.inference import Predicted
from ..dampening_run import Operation, Outcome, Progress, silent
from ..interface import Start
from ..settings import HealSettings
from ..store import row_key
from ..truth import Truth, measure_truth
from .cell_rows import CellRows, outcome_columns, truth_columns
from .scenario import Cell
from .victim_bench import Experiment

STEPS_AFTER_STOP = 15


class Treatment:
    """One cell of an experiment whose method dampens; the victim must have passed its gate.

    What is evaluated in one process can be handed to another: see `searching`.

    Args:
        experiment: the cell's scenario.
        cell: with settings.
        progress: called with (phase, done, total or None).
    """

    def __init__(self, experiment: Experiment, cell: Cell, progress: Progress = silent) -> None:
        self._experiment, self._cell, self._progress = experiment, cell, progress
        settings = cell.dampening or HealSettings()
        data, size = experiment.data, settings.batch_size
        self._operation = Operation(
            experiment.victim,
            data.forget(cell.share).batched(size),
            data.retain(cell.share).batched(size),
            settings,
            problem=lambda: experiment.problem(cell, progress).problem,
            compared=self._compared,
            progress=progress,
        )

    @property
    def start(self) -> Start:
        """Return what it takes to follow the search."""
        return self._operation.searching.start

    def carry_on(self, history: Sequence[Row], skip: int = 0, count: int | None = None) -> list[Row]:
        """Evaluate further settings; see `Searching.carry_on`."""
        return self._operation.carry_on(history, skip, count)

    def rows(self, history: Sequence[Row], seconds: float = 0.0) -> CellRows:
        """Return the cell's rows, from the rows of all settings; ``seconds`` went into them elsewhere."""
        outcome = self._operation.conclude(history)
        start = time.perf_counter()
        truth, steps = self._truth_at(outcome), list(self._steps(outcome))
        columns = {
            **outcome_columns(outcome),
            "seconds_importance": self._experiment.problem(self._cell).seconds,
            "seconds_search": seconds + outcome.seconds["search"],
            "seconds_evaluation": time.perf_counter() - start,
        }
        return self._experiment.scored(self._cell, columns, truth, steps)

    def _compared(self) -> Predicted:
        found = self._experiment.compared(self._cell)
        return found.predictions, found.labels

    def _truth_at(self, outcome: Outcome) -> Truth | None:
        """Measure the truth of the stop, collapsed or not; None without a stop."""
        if outcome.chosen is None:
            return None
        return measure_truth(outcome.at_the_stop(), self._experiment.data)

    def _steps(self, outcome: Outcome) -> Iterator[Row]:
        """Yield rows of `steps`; truth is measured on `Scoring.steps` of them, and beyond the stop."""
        wanted_steps, search = self._experiment.scoring.steps, self._experiment.key(self._cell)
        rows = [{**row, "after_stop": False} for row in outcome.rows()]
        stride = max(1, len(rows) // max(1, wanted_steps))
        if wanted_steps:
            rows += [{**row, "after_stop": True} for row in outcome.beyond_the_stop(STEPS_AFTER_STOP)]
        for number, row in enumerate(rows):
            wanted = row["after_stop"] or row.get("crossed") or number % stride == 0
            if wanted and wanted_steps:
                model = outcome.model_of(number, row)
                row |= truth_columns(measure_truth(model, self._experiment.data))
            yield {"key": row_key(search, number), "search": search, "step": number, **row}
            self._progress("scoring", number + 1, len(rows))
