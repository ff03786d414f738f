"""What a Ray actor does: it runs the trainings and cells of one scenario, and says how far it is."""

from __future__ import annotations

from pathlib import Path

import torch

from ..search.artifacts import ArtifactStore
from ..search.experiment import CellRows, Experiment, Part, Row
from ..search.scenarios import Cell, Scenario, Scoring

Phase = tuple[str, int, int | None]


class Worker:
    """Holds one `Experiment`. All methods are idempotent: a killed worker is restarted and asked again.

    The second thread of the actor answers `phase` while the first one works; callers give it one job at a
    time.

    Args:
        scenario: as JSON (never pickled tensors).
        store: root of the artifact store, a folder that every worker sees.
        data_root: folder of the datasets; None for the default.
        device: "cpu" or "cuda".
        scoring: `Scoring` as JSON.
    """

    def __init__(self, scenario: str, store: str, data_root: str | None, device: str, scoring: str) -> None:
        torch.set_num_threads(1)
        self._experiment = Experiment(
            Scenario.model_validate_json(scenario),
            ArtifactStore(store),
            data_root=None if data_root is None else Path(data_root),
            device=device,
            scoring=Scoring.model_validate_json(scoring),
        )
        self._phase: Phase = ("starting", 0, None)

    def train(self, part: Part) -> Row:
        """Make sure the model of ``part`` is in the store; returns its truth."""
        return dict(self._experiment.trained(part, self._note).info["truth"])

    def run(self, cell: str) -> CellRows:
        """The rows of a cell (given as JSON); one that raises becomes a row of status "failed"."""
        parsed = Cell.model_validate_json(cell)
        try:
            return self._experiment.run(parsed, progress=self._note)
        except Exception as error:
            return CellRows(search=self._experiment.failed(parsed, error), steps=[])

    def phase(self) -> Phase:
        """What the worker is doing: (phase, done, total or None)."""
        return self._phase

    def _note(self, phase: str, done: int, total: int | None) -> None:
        self._phase = (phase, done, total)
