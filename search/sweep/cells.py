"""A cell of a sweep on its victim: from beginning to end, or in the instalments that jobs are made of."""

from __future__ import annotations

from ...rows import Row
from ..dampening_run import Progress, silent
from .cell_rows import CellRows
from .dampening_cell import Treatment
from .scenario import Cell
from .training_cell import TunedTreatment
from .victim_bench import Experiment, Part


def run_cell(experiment: Experiment, cell: Cell, *, progress: Progress = silent) -> CellRows:
    """Compute the rows of a cell, from beginning to end in this process.

    Args:
        experiment: the cell's scenario.
        cell: what to do.
        progress: called with (phase, done, total or None).
    """
    experiment.keeper.begin()
    experiment.trained(Part("victim"), progress)
    failed = experiment.gate_failure()
    if experiment.scoring.reference and not failed:
        experiment.trained(Part("clean"), progress)
    if cell.baseline or failed:
        return untreated(experiment, cell, progress)
    treated = treatment(experiment, cell, progress)
    return treated.rows(treated.carry_on([]))


def treatment(experiment: Experiment, cell: Cell, progress: Progress = silent) -> Treatment | TunedTreatment:
    """Begin what a cell does, in instalments; it must have settings, and the victim must pass its gate."""
    if cell.tuning:
        return TunedTreatment(experiment, cell, cell.tuning, progress)
    return Treatment(experiment, cell, progress)


def untreated(experiment: Experiment, cell: Cell, progress: Progress = silent) -> CellRows:
    """Compute the rows of a baseline, or of any cell of a victim that fails its gate.

    A baseline is nothing, or retraining on retain; its time counts as the search.
    """
    failure = experiment.gate_failure()
    if failure:
        return CellRows(search={**experiment.head(cell), **failure}, steps=[])
    columns: Row = {"status": "done", "seconds_search": 0.0}
    if cell.baseline == "none":
        return experiment.scored(cell, columns, None)
    stored = experiment.trained(Part("retain", cell.share), progress)
    columns["seconds_search"] = stored.info["seconds"]
    return experiment.scored(cell, columns, experiment.truth(Part("retain", cell.share)))
