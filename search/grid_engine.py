"""Goel's grid on the search engine.

The importances are computed once and sorted once for all pairs; the authors' program computes them for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy
from .engine import DampeningProblem
from .grid import GoelGrid, GridOutcome, GridRow, score

Pair = tuple[Tensor, Tensor]
Batches = Iterable[Pair]


def run_grid(
    grid: GoelGrid,
    problem: DampeningProblem,
    held_out: Batches,
    progress: Callable[[int], None] | None = None,
) -> GridOutcome:
    """Evaluate all pairs on one engine.

    Args:
        grid: which pairs.
        problem: victim, importances and S_f; its own lambda plays no part.
        held_out: (x, y) batches; read once for each pair that selects any parameter. They may be
            contaminated: poison in them with the attacker's label makes healing look like a loss.
        progress: called with the number of pairs done.
    """
    held_out_before = _accuracy(problem.undampened(), held_out)
    forget_before = problem.victim_forget_accuracy()
    rows: list[GridRow] = []
    for alpha, constant in grid.pairs():
        evaluation = problem.evaluate_at(alpha, constant)
        changed = problem.dampened(alpha, constant) if evaluation.dampened else None
        after = held_out_before if changed is None else _accuracy(changed, held_out)
        rows.append(
            GridRow(
                alpha=alpha,
                dampening_constant=constant,
                dampened=evaluation.dampened,
                forget_accuracy=evaluation.forget_accuracy,
                held_out_accuracy=after,
                score=score(forget_before - evaluation.forget_accuracy, after - held_out_before),
            )
        )
        if progress:
            progress(len(rows))
    problem.release()
    return GridOutcome(
        rows=tuple(rows), forget_accuracy_before=forget_before, held_out_accuracy_before=held_out_before
    )


def _accuracy(model: nn.Module, data: Batches) -> float:
    return accuracy(*predict(model, data, "held-out data"))
