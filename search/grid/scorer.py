"""Goel's grid on a dampening problem.

The importances are computed once and sorted once for all pairs; the authors' program computes them for each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from functools import cached_property

from torch import nn

from ...unlearning.inference import Batch, predict
from ...unlearning.metrics import accuracy
from ..dampening_problem import DampeningProblem
from .pairs import GoelGrid, GridOutcome, GridRow, score

Batches = Iterable[Batch]


class PairScorer:
    """What pairs of alpha and lambda are worth, in any order; equal weights are measured once.

    Args:
        problem: victim, importances and S_f; its own lambda plays no part.
        held_out: (x, y) batches; read once for each pair whose weights no other has. They may be
            contaminated: poison in them with the attacker's label makes healing look like a loss.
    """

    def __init__(self, problem: DampeningProblem, held_out: Batches) -> None:
        self._problem, self._held_out = problem, held_out
        self._known: dict[Hashable, tuple[float, float]] = {}

    @cached_property
    def held_out_before(self) -> float:
        """Measure the victim's accuracy on the held-out data."""
        return _accuracy(self._problem.undampened(), self._held_out)

    @cached_property
    def forget_before(self) -> float:
        """Return the victim's accuracy on S_f."""
        return self._problem.victim_forget_accuracy()

    def row(self, alpha: float, dampening_constant: float) -> GridRow:
        """Evaluate a pair."""
        forget, held_out = self._accuracies(alpha, dampening_constant)
        return GridRow(
            alpha=alpha,
            dampening_constant=dampening_constant,
            dampened=self._problem.selected(alpha),
            forget_accuracy=forget,
            held_out_accuracy=held_out,
            score=score(self.forget_before - forget, held_out - self.held_out_before),
        )

    def outcome(self, rows: Iterable[GridRow]) -> GridOutcome:
        """Return what a finished search over pairs found, from all its rows."""
        self._problem.release()
        return GridOutcome(
            rows=tuple(rows),
            forget_accuracy_before=self.forget_before,
            held_out_accuracy_before=self.held_out_before,
        )

    def _accuracies(self, alpha: float, dampening_constant: float) -> tuple[float, float]:
        """Measure the accuracies of a pair on S_f and on the held-out data."""
        if not self._problem.selected(alpha):
            return self.forget_before, self.held_out_before
        weights = self._problem.weights_at(alpha, dampening_constant)
        if weights not in self._known:
            forget = self._problem.evaluate_at(alpha, dampening_constant).forget_accuracy
            changed = self._problem.dampened(alpha, dampening_constant)
            self._known[weights] = (forget, _accuracy(changed, self._held_out))
        return self._known[weights]


def run_grid(
    grid: GoelGrid,
    problem: DampeningProblem,
    held_out: Batches,
    progress: Callable[[int], None] | None = None,
) -> GridOutcome:
    """Evaluate all pairs on one engine; see `PairScorer`.

    ``progress`` is called with the number of pairs done.
    """
    scorer = PairScorer(problem, held_out)
    return scorer.outcome(grid_rows(grid, scorer, progress=progress))


def grid_rows(
    grid: GoelGrid,
    scorer: PairScorer,
    start: int = 0,
    stop: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[GridRow]:
    """Evaluate the pairs from ``start`` to ``stop``, the least aggressive first.

    ``progress`` is called with the number of pairs up to the one just done.
    """
    rows = []
    for number, pair in list(enumerate(grid.pairs(), start=1))[start:stop]:
        rows.append(scorer.row(*pair))
        if progress:
            progress(number)
    return rows


def _accuracy(model: nn.Module, data: Batches) -> float:
    return accuracy(*predict(model, data, "held-out data"))
