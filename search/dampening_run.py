"""One healing from beginning to end: examine, compute importances, search, judge.

`heal` runs it on a user's model and data, a scenario's cells on theirs; both get the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

from torch import Tensor, nn

from ..rows import Row
from ..unlearning.importance import Importance
from ..unlearning.inference import Batch, Predicted, predict
from ..unlearning.metrics import accuracy
from .dampening_problem import DampeningProblem, Evaluation
from .entry import Material, Opening
from .given import Batches, Check, random_part, unchecked
from .harm import Harm, compare_on_retain, expected_rate
from .importance_for import importance_for
from .interface import Finding, Searching
from .ptn import PTNSearch
from .searches import SEARCH_ENTRIES
from .settings import HealSettings
from .stopwatch import Stopwatch, peak_memory
from .threshold import automatic_rho, check_unlearnable

Progress = Callable[[str, int, int | None], None]
ImportancePair = tuple[Importance, Importance]


def silent(phase: str, done: int, total: int | None) -> None:
    """Show nothing: the progress callback that is silent."""


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The victim on both sets, before anything is computed.

    Attributes:
        forget_accuracy: Acc_forget(victim).
        expected_rate: the share of S_f that may truly be labelled right; see `expected_rate`.
        targets: the labels that occur in S_f, int64, sorted.
        retain_predictions: of the samples of retain that are compared, int64 [N].
        retain_labels: theirs, as given, int64 [N].
        search: a PTN search with rho as a number; a grid has no use for it.
    """

    forget_accuracy: float
    expected_rate: float
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
        """Return the evaluation at the stop (also where it collapsed), None without a stop."""
        return self.found.chosen

    def rows(self) -> list[Row]:
        """Return one dict per evaluated setting: columns of the table ``steps``."""
        return self.found.rows()

    def model_of(self, number: int, row: Row) -> nn.Module:
        """Return the working copy with the weights of row ``number`` of `rows`, or of one beyond the stop."""
        return self.found.model_of(self.problem, number, row)

    def beyond_the_stop(self, count: int) -> Iterator[Row]:
        """Yield rows of up to ``count`` settings more aggressive than the stop; a grid has none."""
        return self.found.beyond_the_stop(self.problem, count)

    def at_the_stop(self) -> nn.Module:
        """Return the working copy with the weights of the stop, or the victim's; valid as `dampened` is."""
        return self.found.at_the_stop(self.problem)


class Operation:
    """One healing in parts: each is computed when it is first asked for, and kept.

    Args:
        victim: the model, float32 or better, never changed.
        forget: S_f.
        retain: the rest of the training set.
        settings: method and search.
        problem: gives the dampening problem, where somebody has it or the importances; None: they are
            computed when needed.
        compared: gives the victim's predictions of the samples of `compared_part` and their labels, where
            somebody has them; None: computed when needed.
        check: judges the victim's predictions before anything else is computed.
        progress: called with (phase, done, total or None).
    """

    def __init__(
        self,
        victim: nn.Module,
        forget: Batches,
        retain: Batches,
        settings: HealSettings,
        *,
        problem: Callable[[], DampeningProblem] | None = None,
        compared: Callable[[], Predicted] | None = None,
        check: Check = unchecked,
        progress: Progress = silent,
    ) -> None:
        self._victim, self._forget, self._retain, self.settings = victim, forget, retain, settings
        self._problem, self._before, self._check, self.progress = problem, compared, check, progress
        self._watch = Stopwatch(next(victim.parameters()).device)

    @cached_property
    def examination(self) -> Examination:
        """Examine the victim on both sets.

        Raises:
            BadInput: samples that the model cannot take, or a victim that does not believe the found poison.
        """
        with self._watch.phase("check"):
            before = self._before or self._predicted
            return _examine(self._victim, self._forget, before, self._check, self.settings)

    @cached_property
    def problem(self) -> DampeningProblem:
        """Return the dampening problem; it keeps no sums of importances: they are twice as large."""
        with self._watch.phase("importance"):
            return self._problem() if self._problem else self._own_problem()

    @cached_property
    def searching(self) -> Searching:
        """Open the search that the settings name; examine first, so that faults come before long work."""
        examination = self.examination
        return SEARCH_ENTRIES[self.settings.search].open(
            Opening(
                settings=self.settings,
                problem=self.problem,
                retain=self._retain,
                forget_count=len(self._forget),
                forget_accuracy=examination.forget_accuracy,
                rho=examination.search.rho,
            )
        )

    def carry_on(self, history: Sequence[Row], skip: int = 0, count: int | None = None) -> list[Row]:
        """Evaluate further settings of the search; see `Searching.carry_on`."""
        searching = self.searching
        with self._watch.phase("search"):
            return searching.carry_on(
                history,
                skip,
                count,
                lambda steps: self.progress("search", steps, self.settings.setting_count),
            )

    def conclude(self, history: Sequence[Row]) -> Outcome:
        """Judge what the search found, of the rows of all settings it evaluated."""
        searching = self.searching
        with self._watch.phase("search"):
            found = searching.finding(history)
        with self._watch.phase("report"):
            harm = _harm(self._compared, self.examination, found, self.problem, self.progress)
        return Outcome(
            status=_status(found, harm, self.settings),
            found=found,
            harm=harm,
            examination=self.examination,
            problem=self.problem,
            seconds=self._watch.seconds,
            peak_memory=peak_memory(next(self._victim.parameters()).device),
        )

    @property
    def _compared(self) -> Batches:
        return compared_part(self._retain, self.settings.compared)

    def _predicted(self) -> Predicted:
        return predict(self._victim, _counted(self._compared, "check", self.progress), "retain set")

    def _own_problem(self) -> DampeningProblem:
        pair = _importances(self._victim, self._forget, self._retain, self.settings, self.progress)
        seen = self.examination
        predicted = (seen.retain_predictions, seen.retain_labels)
        return SEARCH_ENTRIES[self.settings.search].problem(
            Material(
                victim=self._victim,
                forget=self._forget,
                pair=pair,
                settings=self.settings,
                compared=lambda: (self._compared, predicted),
            )
        )


def operate(operation: Operation) -> Outcome:
    """Search how hard to dampen, from beginning to end.

    Raises:
        BadInput: found by the first passes over the data, before the importances are computed; in samples
            of retain that are not compared, while they are computed.
    """
    return operation.conclude(operation.carry_on([]))


def compared_part(retain: Batches, compared: int | Literal["all"]) -> Batches:
    """Return the samples of retain that a model before and after is compared on."""
    return retain if compared == "all" else random_part(retain, compared)


def metrics_of(outcome: Outcome, forget_count: int, retain_count: int) -> dict[str, Any]:
    """Report an operation as one flat dict (accuracies are shares; seconds by phase).

    ``importance_chunk_reduced_to`` is a number of samples where memory ran out; see `Importance.reduced_to`.
    """
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
        "importance_chunk_reduced_to": outcome.problem.reduced_to,
        "seconds": outcome.seconds,
        "peak_memory": outcome.peak_memory,
    }


def _examine(
    victim: nn.Module,
    forget: Batches,
    predicted: Callable[[], Predicted],
    check: Check,
    settings: HealSettings,
) -> Examination:
    predictions, forget_labels = predict(victim, forget, "forget set")
    before, labels = predicted()
    check((predictions, forget_labels), (before, labels))
    forget_accuracy = accuracy(predictions, forget_labels)
    check_unlearnable(forget_accuracy)
    expected = expected_rate(before, forget_labels)
    rho = automatic_rho(expected, len(forget_labels)) if settings.rho == "auto" else settings.rho
    return Examination(
        forget_accuracy=forget_accuracy,
        expected_rate=expected,
        targets=forget_labels.unique(),
        retain_predictions=before,
        retain_labels=labels,
        search=settings.ptn(rho),
    )


def _importances(
    victim: nn.Module, forget: Batches, retain: Batches, settings: HealSettings, progress: Progress
) -> ImportancePair:
    def importance(data: Batches, phase: str) -> Importance:
        return importance_for(settings, victim, data, lambda done: progress(phase, done, len(data)))

    return importance(forget, "importance of forget"), importance(retain, "importance of retain")


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
        stop = found.at_the_stop(problem)
        after, _ = predict(stop, _counted(compared, "report", progress), "retain set")
    return compare_on_retain(before, after, examination.retain_labels, examination.targets)


def _status(found: Finding, harm: Harm, settings: HealSettings) -> str:
    wrecked = harm.collapsed(drop=settings.collapse_drop, share=settings.collapse_share)
    return "collapsed" if found.chosen is not None and wrecked else found.status


def _counted(batches: Batches, phase: str, progress: Progress) -> Iterator[Batch]:
    done = 0
    for x, y in batches:
        yield x, y
        done += len(y)
        progress(phase, done, len(batches))
