"""One healing from beginning to end: examine, compute importances, search, judge.

`heal` runs it on a user's model and data, a scenario's cells on theirs; both get the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..unlearning.importance import Importance, estimate_importance
from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy
from .engine import DampeningProblem, Evaluation, run_ptn
from .findings import Finding, GridFinding, PTNFinding, Row
from .grid_engine import run_grid
from .harm import Harm, compare_on_retain, target_rate
from .inputs import Batches, Pair, random_part
from .measuring import Stopwatch, peak_memory
from .ptn import PTNSearch, automatic_rho, check_unlearnable
from .settings import HealSettings

Progress = Callable[[str, int, int | None], None]
ImportancePair = tuple[Importance, Importance]


def silent(phase: str, done: int, total: int | None) -> None:
    """The progress callback that shows nothing."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The victim on both sets, before anything is computed.

    Attributes:
        forget_accuracy: Acc_forget(victim).
        targets: the labels that occur in S_f, int64, sorted.
        retain_predictions: of the samples of retain that are compared, int64 [N].
        retain_labels: theirs, as given, int64 [N].
        search: a PTN search with rho as a number; a grid has no use for it.
    """

    forget_accuracy: float
    targets: Tensor
    retain_predictions: Tensor
    retain_labels: Tensor
    search: PTNSearch


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A finished operation.

    Attributes:
        status: "stopped", "no_stop" or "collapsed".
        found: what the search found, whichever it was.
        harm: the stop against the victim on retain.
        examination: the victim on both sets.
        problem: the dampening problem that was searched; its `dampened` gives the weights of any alpha.
        seconds: wall-clock by phase: check, importance, search, report.
        peak_memory: bytes.
    """

    status: str
    found: Finding
    harm: Harm
    examination: Examination
    problem: DampeningProblem
    seconds: dict[str, float]
    peak_memory: int

    @property
    def chosen(self) -> Evaluation | None:
        """The evaluation at the stop (also where it collapsed), None without a stop."""
        return self.found.chosen

    def rows(self) -> list[Row]:
        """One dict per evaluated setting: columns of the table ``steps``."""
        return self.found.rows()

    def beyond_the_stop(self, count: int) -> Iterator[Row]:
        """Rows of up to ``count`` settings more aggressive than the stop; a grid has none."""
        return self.found.beyond_the_stop(self.problem, count)

    def at_the_stop(self) -> nn.Module:
        """The working copy with the weights of the stop; the victim's without one. Valid as `dampened` is."""
        return _at_the_stop(self.problem, self.found)


def operate(
    victim: nn.Module,
    forget: Batches,
    retain: Batches,
    settings: HealSettings,
    *,
    importances: Callable[[], ImportancePair] | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Search how hard to dampen ``victim`` (float32 or better, never changed).

    Args:
        victim: the model.
        forget: S_f.
        retain: the rest of the training set.
        settings: method and search.
        importances: gives those of S_f and of retain, where somebody has them; None: computed now.
        progress: called with (phase, done, total or None).

    Raises:
        BadInput: found by the first passes over the data, before the importances are computed; in samples
            of retain that are not compared, while they are computed.
    """
    device = next(victim.parameters()).device
    watch = Stopwatch(device)
    compared = retain if settings.compared == "all" else random_part(retain, settings.compared)
    with watch.phase("check"):
        examination = _examine(victim, forget, _counted(compared, "check", progress), settings)
    with watch.phase("importance"):
        make = importances or (lambda: _importances(victim, forget, retain, settings, progress))
        problem = _problem(victim, forget, make(), settings)  # keeps no sums: they are twice as large
    with watch.phase("search"):
        if settings.search == "grid":
            found: Finding = _grid(settings, problem, random_part(retain, settings.held_out), progress)
        else:
            found = _ptn(settings, examination, problem, len(forget), len(retain), progress)
    with watch.phase("report"):
        harm = _harm(compared, examination, found, problem, progress)
    return Outcome(
        status=_status(found, harm, settings),
        found=found,
        harm=harm,
        examination=examination,
        problem=problem,
        seconds=watch.seconds,
        peak_memory=peak_memory(device),
    )


def metrics_of(outcome: Outcome, forget_count: int, retain_count: int) -> dict[str, Any]:
    """The report of an operation as one flat dict (accuracies are shares; seconds by phase)."""
    chosen, before = outcome.chosen, outcome.examination.forget_accuracy
    return {
        "forget_count": forget_count,
        "retain_count": retain_count,
        "parameters": outcome.problem.parameter_count,
        "dampened": 0 if chosen is None else chosen.dampened,
        "steps": outcome.found.columns()["steps"],
        **outcome.found.metrics(),
        "forget_accuracy_before": before,
        "forget_accuracy": before if chosen is None else chosen.forget_accuracy,
        **asdict(outcome.harm),
        "seconds": outcome.seconds,
        "peak_memory": outcome.peak_memory,
    }


def _examine(
    victim: nn.Module, forget: Batches, compared: Iterator[Pair], settings: HealSettings
) -> Examination:
    predictions, forget_labels = predict(victim, forget, "forget set")
    forget_accuracy = accuracy(predictions, forget_labels)
    check_unlearnable(forget_accuracy)
    before, labels = predict(victim, compared, "retain set")
    rho = _automatic_rho(before, forget_labels) if settings.rho == "auto" else settings.rho
    return Examination(
        forget_accuracy=forget_accuracy,
        targets=forget_labels.unique(),
        retain_predictions=before,
        retain_labels=labels,
        search=settings.ptn(rho),
    )


def _automatic_rho(retain_predictions: Tensor, forget_labels: Tensor) -> float:
    targets, counts = forget_labels.unique(return_counts=True)
    rates = torch.tensor([target_rate(retain_predictions, target) for target in targets])
    return automatic_rho(float((rates * counts).sum() / counts.sum()), len(forget_labels))


def _importances(
    victim: nn.Module, forget: Batches, retain: Batches, settings: HealSettings, progress: Progress
) -> ImportancePair:
    def importance(data: Batches, phase: str) -> Importance:
        return estimate_importance(
            victim,
            data,
            kind=settings.kind,
            granularity=settings.granularity,
            precision=settings.precision,
            progress=lambda done: progress(phase, done, len(data)),
        )

    return importance(forget, "importance of forget"), importance(retain, "importance of retain")


def _problem(
    victim: nn.Module, forget: Batches, pair: ImportancePair, settings: HealSettings
) -> DampeningProblem:
    piece = None if settings.piece == "whole" else settings.piece
    return DampeningProblem(
        victim, forget, *pair, dampening_constant=settings.dampening_constant, piece=piece
    )


def _ptn(
    settings: HealSettings,
    examination: Examination,
    problem: DampeningProblem,
    forget_count: int,
    retain_count: int,
    progress: Progress,
) -> PTNFinding:
    search = examination.search
    start = search.start(
        forget_count=forget_count,
        train_count=forget_count + retain_count,
        victim_forget_accuracy=examination.forget_accuracy,
    )
    outcome = run_ptn(search, start, problem, lambda steps: progress("search", steps, None))
    return PTNFinding(search=search, outcome=outcome, constant=settings.dampening_constant)


def _grid(
    settings: HealSettings, problem: DampeningProblem, held_out: Batches, progress: Progress
) -> GridFinding:
    """The held-out samples are read for every pair, so they are kept in memory."""
    grid = settings.grid()
    total = len(grid.pairs())
    outcome = run_grid(grid, problem, list(held_out), lambda done: progress("search", done, total))
    return GridFinding(outcome=outcome, held_out_count=len(held_out))


def _harm(
    compared: Batches,
    examination: Examination,
    found: Finding,
    problem: DampeningProblem,
    progress: Progress,
) -> Harm:
    before = examination.retain_predictions
    after = before
    if found.chosen is not None:
        after, _ = predict(_at_the_stop(problem, found), _counted(compared, "report", progress), "retain set")
    return compare_on_retain(before, after, examination.retain_labels, examination.targets)


def _at_the_stop(problem: DampeningProblem, found: Finding) -> nn.Module:
    if found.chosen is None:
        return problem.undampened()
    return problem.dampened(found.chosen.alpha, found.dampening_constant)


def _status(found: Finding, harm: Harm, settings: HealSettings) -> str:
    wrecked = harm.collapsed(drop=settings.collapse_drop, share=settings.collapse_share)
    return "collapsed" if found.chosen is not None and wrecked else found.status


def _counted(batches: Batches, phase: str, progress: Progress) -> Iterator[Pair]:
    done = 0
    for x, y in batches:
        yield x, y
        done += len(y)
        progress(phase, done, len(batches))
