"""What a worker is asked to do, and what it answers: small things that travel as JSON.

A job is idempotent: whoever is asked a second time finds in the store what the first one finished.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ...rows import Row
from ..searches import AnyStart
from .scenario import Cell, Scenario
from .victim_bench import Part
from .victim_importances import ImportancePart


class _Message(BaseModel):
    # rows may hold infinite numbers, which JSON would otherwise turn into null
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class _Job(_Message):
    scenario: Scenario


class TrainJob(_Job):
    """Make sure that the model of a part of the training set is in the store."""

    sort: Literal["train"] = "train"
    part: Part


class ImportanceJob(_Job):
    """Make sure that importances of the victim are in the store."""

    sort: Literal["importance"] = "importance"
    part: ImportancePart


class UntreatedJob(_Job):
    """The rows of a baseline, or of a cell whose victim fails its gate."""

    sort: Literal["untreated"] = "untreated"
    cell: Cell


class SearchJob(_Job):
    """Evaluate a block of settings of a cell's search.

    Attributes:
        cell: whose search.
        history: rows of the settings evaluated before, in order.
        skip: settings after these that other workers evaluate.
        count: how many settings to evaluate at most.
        finish: if the search is over then, score what it found.
        seconds: that the settings of ``history`` took.
    """

    sort: Literal["search"] = "search"
    cell: Cell
    history: tuple[Row, ...] = ()
    skip: int = Field(default=0, ge=0)
    count: int = Field(ge=1)
    finish: bool = True
    seconds: float = 0.0


Job = TrainJob | ImportanceJob | UntreatedJob | SearchJob
_JOBS: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="sort")])


def read_job(text: str) -> Job:
    """Read a job from its JSON."""
    return _JOBS.validate_json(text)


class Failure(BaseModel):
    """Why something could not be done.

    Attributes:
        error_class: name of the exception's class.
        message: what it said.
        bad_input: something that the user gave and can put right.
        fatal: no other job can be done either, until the user has put it right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    error_class: str
    message: str
    bad_input: bool = False
    fatal: bool = False


class Answer(_Message):
    """What became of a job.

    Attributes:
        seconds: it took, wall-clock.
        peak_memory: of the worker up to now, in bytes.
        failure: what was raised; then nothing else counts.
        train_count: |S_tr| (of a `TrainJob`).
        gate_passed: whether the victim did (of a `TrainJob` of a victim).
        start: how to follow the search (of a `SearchJob`).
        evaluated: rows of the settings that a `SearchJob` evaluated.
        search_seconds: that they took.
        finished: the rows of the cell are ready to be collected.
        warnings: what the worker logged as such meanwhile, each once.
    """

    seconds: float = 0.0
    peak_memory: int = 0
    failure: Failure | None = None
    train_count: int | None = None
    gate_passed: bool | None = None
    start: AnyStart | None = None
    evaluated: tuple[Row, ...] = ()
    search_seconds: float = 0.0
    finished: bool = False
    warnings: tuple[str, ...] = ()
