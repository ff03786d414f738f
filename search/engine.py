"""What a search asks: how does the victim, dampened at this percentile, do on the found poison?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from ..errors import BadInput
from ..unlearning.dampening import Ratios, dampen
from ..unlearning.importance import Importance
from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy
from .ptn import PTNSearch, PTNState

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


class DampeningProblem:
    """A victim, its importances and S_f: everything that stays the same during a search.

    Args:
        victim: never changed; a working copy is dampened instead.
        forget: (x, y) batches of S_f; iterated once per evaluation.
        forget_importance: over S_f.
        retain_importance: over retain, of the same kind and granularity.
        dampening_constant: lambda.

    Raises:
        BadInput: the importances are of different kinds or of another model.
    """

    def __init__(
        self,
        victim: nn.Module,
        forget: Batches,
        forget_importance: Importance,
        retain_importance: Importance,
        *,
        dampening_constant: float = 1.0,
    ) -> None:
        sorts = {(i.kind, i.granularity, i.exponent) for i in (forget_importance, retain_importance)}
        if len(sorts) > 1:
            raise BadInput(f"forget and retain importances are of different sorts: {sorted(sorts)}")
        self._forget = forget
        self._forget_importance = forget_importance.mean()
        self._retain_importance = retain_importance.mean()
        self._ratios = Ratios(self._forget_importance, self._retain_importance)
        self._constant = dampening_constant
        self._weights = {name: p.detach().clone() for name, p in victim.named_parameters()}
        self._model = copy.deepcopy(victim).requires_grad_(False)

    @property
    def parameter_count(self) -> int:
        """How many parameters the model has."""
        return sum(w.numel() for w in self._weights.values())

    def evaluate(self, percentile: float) -> Evaluation:
        """Dampen at alpha(percentile) and measure the forget accuracy."""
        alpha = self.alpha_at(percentile)
        predictions, labels = predict(self.dampened(alpha), self._forget, "forget set")
        return Evaluation(
            alpha=alpha, dampened=self.selected(alpha), forget_accuracy=accuracy(predictions, labels)
        )

    def alpha_at(self, percentile: float) -> float:
        """Alpha for a percentile in [0, 100]."""
        return self._ratios.alpha_at(percentile)

    def dampened(self, alpha: float) -> nn.Module:
        """The working copy with the victim's weights dampened at ``alpha``; valid until the next call."""
        weights = dampen(
            self._weights, self._forget_importance, self._retain_importance, alpha, self._constant
        )
        for name, parameter in self._model.named_parameters():
            parameter.copy_(weights[name])
        return self._model

    def selected(self, alpha: float) -> int:
        """How many parameters have I_f > alpha * I_r."""
        pairs = ((self._forget_importance[n], self._retain_importance[n]) for n in self._weights)
        return sum(int((forget > alpha * retain).sum()) for forget, retain in pairs)


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """A finished PTN search: the state, and one evaluation per step of its trace."""

    state: PTNState
    evaluations: tuple[Evaluation, ...]

    @property
    def chosen(self) -> Evaluation | None:
        """The evaluation of the step the search settled on; None if it never crossed."""
        step = self.state.chosen
        return None if step is None else self.evaluations[self.state.trace.index(step)]

    def rows(self) -> list[dict[str, Any]]:
        """One dict per evaluated step: s, percentile, alpha, dampened, forget_accuracy, crossed."""
        return [
            {**asdict(step), "alpha": evaluation.alpha, "dampened": evaluation.dampened}
            for step, evaluation in zip(self.state.trace, self.evaluations, strict=True)
        ]


def run_ptn(
    search: PTNSearch,
    state: PTNState,
    problem: DampeningProblem,
    progress: Callable[[int], None] | None = None,
) -> SearchOutcome:
    """Drive the state machine to its end; ``progress`` is called with the number of steps done."""
    evaluations: list[Evaluation] = []
    while state.status == "searching":
        evaluations.append(problem.evaluate(state.percentile))
        state = search.update(state, evaluations[-1].forget_accuracy)
        if progress:
            progress(len(evaluations))
    return SearchOutcome(state=state, evaluations=tuple(evaluations))
