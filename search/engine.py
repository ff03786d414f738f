"""What a search asks: how does the victim, dampened at this percentile, do on the found poison?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor, nn

from ..errors import BadInput
from ..unlearning.dampening_path import DampeningPath
from ..unlearning.importance import Importance
from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy
from .ptn import PTNSearch, PTNState, crosses

Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A dampened model on S_f.

    Attributes:
        alpha: selection threshold.
        dampened: number of parameters selected, I_f > alpha * I_r.
        forget_accuracy: share of S_f predicted as labelled.
    """

    alpha: float
    dampened: int
    forget_accuracy: float

    @property
    def exact(self) -> bool:
        """Whether ``forget_accuracy`` is the accuracy itself."""
        return True


@dataclass(frozen=True, kw_only=True)
class BoundedEvaluation(Evaluation):
    """An evaluation that stopped early.

    ``forget_accuracy`` is a bound that lies on the same side of the threshold as the accuracy: a lower bound
    above the threshold, or an upper bound that is not.
    """

    @property
    def exact(self) -> bool:
        return False


class DampeningProblem:
    """A victim, its importances and S_f: everything that stays the same during a search.

    Memory, for N float32 parameters: the victim is the caller's; this holds one working copy (4 N bytes), the
    two importances in float32 (8 N), and about 20 bytes for each parameter that is sorted, at first the 1/32
    with the largest ratios; see `DampeningPath`.

    Args:
        victim: never changed; a working copy is dampened instead.
        forget: (x, y) batches of S_f; iterated once per evaluation.
        forget_importance: over S_f.
        retain_importance: over retain, of the same kind and granularity.
        dampening_constant: lambda.
        piece: samples of S_f per forward pass of a measurement that may stop early, at least 1; None: the
            batches as they are. Smaller ones let it stop earlier; predictions are the same up to how rounding
            depends on the size of a batch.

    Raises:
        BadInput: a piece below 1, or the importances are of different kinds or of another model.
    """

    def __init__(
        self,
        victim: nn.Module,
        forget: Batches,
        forget_importance: Importance,
        retain_importance: Importance,
        *,
        dampening_constant: float = 1.0,
        piece: int | None = None,
    ) -> None:
        if piece is not None and piece < 1:
            raise BadInput(f"piece {piece}: give at least one sample per forward pass, or None")
        sorts = {(i.kind, i.granularity, i.exponent) for i in (forget_importance, retain_importance)}
        if len(sorts) > 1:
            raise BadInput(f"forget and retain importances are of different sorts: {sorted(sorts)}")
        self._forget = forget
        self._forget_count: int | None = None
        self._piece = piece
        self._constant = dampening_constant
        self._model = copy.deepcopy(victim).requires_grad_(False)
        self._path = DampeningPath(dict(self._model.named_parameters()), forget_importance, retain_importance)

    @property
    def parameter_count(self) -> int:
        """How many parameters the model has."""
        return self._path.count

    @property
    def held_bytes(self) -> int:
        """Bytes held: the working copy's parameters, the importances, and what is sorted."""
        return self._path.held_bytes

    def evaluate(self, percentile: float, *, threshold: float | None = None) -> Evaluation:
        """Dampen at alpha(percentile) and measure the forget accuracy.

        Args:
            percentile: in [0, 100].
            threshold: stop the measurement as soon as it is certain whether the forget accuracy is at most
                this; the result is a `BoundedEvaluation` then. None, or S_f in one piece: always exact.
        """
        return self.evaluate_at(self.alpha_at(percentile), threshold=threshold)

    def evaluate_at(
        self, alpha: float, dampening_constant: float | None = None, *, threshold: float | None = None
    ) -> Evaluation:
        """Dampen at alpha, with another lambda if one is given, and measure; see `evaluate`."""
        count = self._path.move_to(alpha, self._lambda(dampening_constant))
        forget_accuracy, exact = self._forget_accuracy(threshold)
        kind = Evaluation if exact else BoundedEvaluation
        return kind(alpha=alpha, dampened=count, forget_accuracy=forget_accuracy)

    def alpha_at(self, percentile: float) -> float:
        """Alpha for a percentile in [0, 100]."""
        return self._path.alpha_at(percentile)

    def dampened(self, alpha: float, dampening_constant: float | None = None) -> nn.Module:
        """The working copy with the victim's weights dampened at ``alpha``.

        Valid until the next call of this class; with another lambda if one is given.
        """
        self._path.move_to(alpha, self._lambda(dampening_constant))
        return self._model

    def undampened(self) -> nn.Module:
        """The working copy with the victim's weights; valid until the next call."""
        self._path.restore()
        return self._model

    def victim_forget_accuracy(self) -> float:
        """Acc_forget(victim), measured now."""
        self._path.restore()
        return self._forget_accuracy(None)[0]

    def selected(self, alpha: float) -> int:
        """How many parameters have I_f > alpha * I_r."""
        return self._path.selected(alpha)

    def _lambda(self, dampening_constant: float | None) -> float:
        return self._constant if dampening_constant is None else dampening_constant

    def _forget_accuracy(self, threshold: float | None) -> tuple[float, bool]:
        """Of the working copy as it is, and whether that is exact. The first time it is: |S_f| is counted."""
        if threshold is not None and self._forget_count is not None:
            return self._bounded(threshold, self._forget_count)
        predictions, labels = predict(self._model, self._forget, "forget set")
        self._forget_count = len(labels)
        return accuracy(predictions, labels), True

    def _pieces(self) -> Batches:
        for x, y in self._forget:
            size = self._piece or max(1, len(y))
            yield from zip(x.split(size), y.split(size), strict=True)

    def _bounded(self, threshold: float, count: int) -> tuple[float, bool]:
        correct, remaining = 0, count
        for piece in self._pieces():
            predictions, labels = predict(self._model, [piece], "forget set")
            correct, remaining = correct + int((predictions == labels).sum()), remaining - len(labels)
            if not crosses(correct / count, threshold):
                return correct / count, remaining == 0
            if crosses((correct + remaining) / count, threshold):
                return (correct + remaining) / count, remaining == 0
        raise BadInput(
            f"the forget set held {count} samples at first and holds {count - remaining} now; give data that "
            f"stay the same from pass to pass"
        )


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """A finished PTN search: the state, and one evaluation per step of its trace."""

    state: PTNState
    evaluations: tuple[Evaluation, ...]

    @property
    def chosen(self) -> Evaluation | None:
        """The evaluation of the step the search settled on, always exact; None if it never crossed."""
        step = self.state.chosen
        return None if step is None else self.evaluations[self.state.trace.index(step)]

    def rows(self) -> list[dict[str, Any]]:
        """One dict per evaluated step: s, percentile, alpha, dampened, forget_accuracy, crossed.

        ``forget_accuracy`` is None where the measurement stopped early: a bound is no accuracy.
        """
        return [
            {
                **asdict(step),
                "alpha": evaluation.alpha,
                "dampened": evaluation.dampened,
                "forget_accuracy": evaluation.forget_accuracy if evaluation.exact else None,
            }
            for step, evaluation in zip(self.state.trace, self.evaluations, strict=True)
        ]


def run_ptn(
    search: PTNSearch,
    state: PTNState,
    problem: DampeningProblem,
    progress: Callable[[int], None] | None = None,
    *,
    early_exit: bool = True,
) -> SearchOutcome:
    """Drive the state machine to its end.

    Args:
        search: its settings.
        state: where to start.
        problem: what is searched.
        progress: called with the number of steps done.
        early_exit: where S_f has several batches or pieces, stop measuring a step once it is certain on which
            side of the threshold it lies. Steps, stop and alpha are the same; the forget accuracies of the
            other steps may then be bounds. That of the chosen step is exact.
    """
    evaluations: list[Evaluation] = []
    threshold = state.threshold if early_exit else None
    while state.status == "searching":
        evaluations.append(problem.evaluate(state.percentile, threshold=threshold))
        state = search.update(state, evaluations[-1].forget_accuracy)
        if progress:
            progress(len(evaluations))
    return _with_exact_choice(SearchOutcome(state=state, evaluations=tuple(evaluations)), problem)


def _with_exact_choice(outcome: SearchOutcome, problem: DampeningProblem) -> SearchOutcome:
    """Measure the chosen step to its end, if that was not done."""
    step, chosen = outcome.state.chosen, outcome.chosen
    if step is None or chosen is None or chosen.exact:
        return outcome
    evaluation = problem.evaluate_at(chosen.alpha)
    exact = replace(step, forget_accuracy=evaluation.forget_accuracy)
    trace = tuple(exact if one is step else one for one in outcome.state.trace)
    evaluations = tuple(evaluation if one is chosen else one for one in outcome.evaluations)
    return SearchOutcome(state=replace(outcome.state, trace=trace), evaluations=evaluations)
