"""A method that trains, on a victim, in instalments: what such a cell of an experiment does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from ... import __version__
from ...rows import Row
from ...unlearning.inference import Predicted
from ...unlearning.methods import Known
from ..dampening_run import Progress, silent
from ..grid import TPEStart
from ..stopwatch import peak_memory
from ..store import SCHEMAS, row_key
from ..training import SELECTION_CLEAN, SELECTION_HEALED, Tuned, TuneSettings, Tuning, defaults, from_recipe
from ..truth import Truth, measure_selection, measure_truth
from .cell_rows import CellRows
from .scenario import Cell
from .victim_bench import Experiment

STEP_COLUMNS = frozenset(SCHEMAS["steps"].names)


class TunedTreatment:
    """One cell of an experiment whose method trains; the victim must have passed its gate.

    Truth is measured of every setting: it takes little beside a training. A search reads it only where its
    objective is an oracle's, and then that of images which are not reported on.

    Args:
        experiment: the cell's scenario.
        cell: with ``settings``.
        settings: of the cell.
        progress: called with (phase, done, total or None).
    """

    def __init__(
        self, experiment: Experiment, cell: Cell, settings: TuneSettings, progress: Progress = silent
    ) -> None:
        self._experiment, self._cell, self._progress = experiment, cell, progress
        data = experiment.data
        self._tuning = Tuning(
            experiment.victim,
            Known(forget=data.forget(cell.share), retain=data.retain(cell.share), clean=data.clean_test()),
            data.forget(cell.share).batched(settings.batch_size),
            data.retain(cell.share).batched(settings.batch_size),
            settings,
            given=from_recipe(settings.method, experiment.scenario.recipe),
            seed=experiment.scenario.seed,
            measure=self._measured,
            watch=self._watched if experiment.scoring.steps else None,
            kept=_Kept(experiment, cell, settings),
            compared=self._compared,
        )

    @property
    def start(self) -> TPEStart:
        """Return what it takes to follow the search."""
        return self._tuning.start

    def carry_on(self, history: Sequence[Row], skip: int = 0, count: int | None = None) -> list[Row]:
        """Evaluate further settings; see `Searching.carry_on`."""
        total = self._tuning.start.count
        return self._tuning.carry_on(history, skip, count, lambda done: self._progress("search", done, total))

    def rows(self, history: Sequence[Row], seconds: float = 0.0) -> CellRows:
        """Return the cell's rows, from the rows of all settings.

        ``seconds_search`` is what all runs of the method took, wherever that was; ``seconds`` plays no part.
        """
        found = self._tuning.conclude(history)
        columns = {
            **self._columns(found),
            "seconds_search": sum(row["seconds"] for row in found.rows),
            "peak_memory": peak_memory(self._experiment.device),
        }
        truth = None if found.chosen is None else Truth.from_row(found.chosen)
        return self._experiment.scored(self._cell, columns, truth, list(self._steps(found)))

    def _columns(self, found: Tuned) -> Row:
        chosen, before = found.chosen, found.examined.forget_accuracy
        settings = self._cell.tuning
        columns: Row = {
            "status": found.status,
            "steps": len(found.rows),
            "forget_accuracy_before": before,
            "forget_accuracy": before if chosen is None else chosen["forget_accuracy"],
            "parameters": None if chosen is None else chosen["parameters"],
            "score": None if chosen is None else chosen["score"],
            "objective": settings.objective if settings and settings.search == "tpe" else None,
        }
        if found.status == "failed":
            columns |= {"error_class": "AllFailed", "error_message": found.rows[0]["error_message"]}
        return columns

    def _steps(self, found: Tuned) -> list[Row]:
        search = self._experiment.key(self._cell)
        return [
            {
                **{name: value for name, value in row.items() if name in STEP_COLUMNS},
                "key": row_key(search, number),
                "search": search,
                "step": number,
                "after_stop": False,
            }
            for number, row in enumerate(found.rows)
        ]

    def _measured(self, model: nn.Module) -> Row:
        data = self._experiment.data
        row = self._watched(model)
        if data.held_back.selection:
            selection = measure_selection(model, data)
            row |= {SELECTION_CLEAN: selection.clean_accuracy, SELECTION_HEALED: selection.healed_raw}
        return row

    def _watched(self, model: nn.Module) -> Row:
        return asdict(measure_truth(model, self._experiment.data))

    def _compared(self) -> Predicted:
        found = self._experiment.compared(self._cell)
        return found.predictions, found.labels


class _Kept:
    """Rows of runs in the artifact store, under all that determines them."""

    def __init__(self, experiment: Experiment, cell: Cell, settings: TuneSettings) -> None:
        scenario = experiment.scenario
        self._store, self._method = experiment.store, settings.method
        self._victim = experiment.victim_checksum
        self._key: tuple[Any, ...] = (
            "trial",
            scenario.key,
            cell.share_name,
            settings.model_dump(mode="json", include={"collapse_drop", "collapse_share", "compared"}),
            bool(experiment.scoring.steps),
            __version__,
        )

    def find(self, parameters: dict[str, Any]) -> Row | None:
        """Find the row of a trial; see `RowStore`."""
        return self._store.find_trial(self._key_of(parameters), victim=self._victim)

    def put(self, parameters: dict[str, Any], row: Row) -> None:
        """Store the row of a trial; see `RowStore`."""
        self._store.put_trial(self._key_of(parameters), row, victim=self._victim)

    def _key_of(self, parameters: dict[str, Any]) -> str:
        """Make a key of every hyperparameter: a default that changes makes another trial."""
        return row_key(*self._key, self._method, defaults(self._method, parameters))
