"""Goel's grid on the search engine.

The importances are computed once and sorted once for all pairs; the authors' program computes them for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property

from torch import Tensor, nn

from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy
from .engine import DampeningProblem
from .grid import GoelGrid, GridOutcome, GridRow, score

Pair = tuple[Tensor, Tensor]
Batches = Iterable[Pair]


class GridRun:
    """The pairs of a grid on one engine, in any order and any number at a time.

    Args:
        grid: which pairs.
        problem: victim, importances and S_f; its own lambda plays no part.
        held_out: (x, y) batches; read once for each pair that selects any parameter. They may be
            contaminated: poison in them with the attacker's label makes healing look like a loss.
    """

    def __init__(self, grid: GoelGrid, problem: DampeningProblem, held_out: Batches) -> None:
        self.grid, self._problem, self._held_out = grid, problem, held_out

    @cached_property
    def held_out_before(self) -> float:
        """The victim's accuracy on the held-out data."""
        return _accuracy(self._problem.undampened(), self._held_out)

    @cached_property
    def forget_before(self) -> float:
        """The victim's on S_f."""
        return self._problem.victim_forget_accuracy()

    def rows(
        self, start: int = 0, stop: int | None = None, progress: Callable[[int], None] | None = None
    ) -> list[GridRow]:
        """Evaluate the pairs from ``start`` to ``stop``, the least aggressive first.

        ``progress`` is called with the number of pairs up to the one just done.
        """
        rows = []
        for number, pair in list(enumerate(self.grid.pairs(), start=1))[start:stop]:
            rows.append(self._row(*pair))
            if progress:
                progress(number)
        return rows

    def outcome(self, rows: Iterable[GridRow]) -> GridOutcome:
        """The finished grid, from the rows of all its pairs, the least aggressive first."""
        self._problem.release()
        return GridOutcome(
            rows=tuple(rows),
            forget_accuracy_before=self.forget_before,
            held_out_accuracy_before=self.held_out_before,
        )

    def _row(self, alpha: float, constant: float) -> GridRow:
        before, forget_before = self.held_out_before, self.forget_before
        evaluation = self._problem.evaluate_at(alpha, constant)
        changed = self._problem.dampened(alpha, constant) if evaluation.dampened else None
        after = before if changed is None else _accuracy(changed, self._held_out)
        return GridRow(
            alpha=alpha,
            dampening_constant=constant,
            dampened=evaluation.dampened,
            forget_accuracy=evaluation.forget_accuracy,
            held_out_accuracy=after,
            score=score(forget_before - evaluation.forget_accuracy, after - before),
        )


def run_grid(
    grid: GoelGrid,
    problem: DampeningProblem,
    held_out: Batches,
    progress: Callable[[int], None] | None = None,
) -> GridOutcome:
    """Evaluate all pairs; see `GridRun`."""
    run = GridRun(grid, problem, held_out)
    return run.outcome(run.rows(progress=progress))


def _accuracy(model: nn.Module, data: Batches) -> float:
    return accuracy(*predict(model, data, "held-out data"))
