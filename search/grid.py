"""The grid of selective synaptic dampening (Goel et al.; design.md section 2): alpha times lambda.

The importances are computed once and sorted once for all pairs; the authors' program computes them for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy
from .engine import DampeningProblem

Batches = Iterable[tuple[Tensor, Tensor]]
Pair = tuple[float, float]

# sums of shares that are equal in truth differ by about this in floating point
ROUNDING = 1e-12


class GoelGrid(BaseModel):
    """Which pairs of alpha and lambda are tried; the defaults are the paper's 50.

    Attributes:
        alphas: selection thresholds, each finite and above 0, none twice.
        relative_lambdas: lambda as a multiple of alpha, likewise.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alphas: tuple[float, ...] = Field(
        default=(0.1, 1.0, 10.0, 50.0, 100.0, 500.0, 1e3, 1e4, 1e5, 1e6), min_length=1
    )
    relative_lambdas: tuple[float, ...] = Field(default=(0.1, 0.5, 1.0, 5.0, 10.0), min_length=1)

    @field_validator("alphas", "relative_lambdas")
    @classmethod
    def _sizes(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 < value < math.inf for value in values):
            raise ValueError("give finite numbers above 0")
        if len(set(values)) < len(values):
            raise ValueError("give every number once")
        return values

    def pairs(self) -> list[Pair]:
        """(alpha, lambda), the least aggressive first: the largest alpha, then the largest lambda."""
        lambdas = sorted(self.relative_lambdas, reverse=True)
        return [(alpha, alpha * one) for alpha in sorted(self.alphas, reverse=True) for one in lambdas]


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """One evaluated pair.

    Attributes:
        alpha: selection threshold.
        dampening_constant: lambda.
        dampened: number of parameters selected.
        forget_accuracy: share of S_f predicted as labelled.
        held_out_accuracy: on the held-out data, labels as given.
        score: see `score`.
    """

    alpha: float
    dampening_constant: float
    dampened: int
    forget_accuracy: float
    held_out_accuracy: float
    score: float


@dataclass(frozen=True, kw_only=True)
class GridOutcome:
    """A finished grid.

    Attributes:
        rows: one per pair, the least aggressive first.
        forget_accuracy_before, held_out_accuracy_before: the victim's.
    """

    rows: tuple[GridRow, ...]
    forget_accuracy_before: float
    held_out_accuracy_before: float

    @property
    def winner(self) -> GridRow:
        """The row with the highest score; see `best`."""
        return best(self.rows)


def score(forget_drop: float, held_out_change: float) -> float:
    """Equally weighted sum of the drop of accuracy on S_f and the change of accuracy on held-out data."""
    return forget_drop + held_out_change


def best(rows: Sequence[GridRow]) -> GridRow:
    """The row with the highest score; of equal ones the least aggressive: largest alpha, then largest lambda.

    Raises:
        ValueError: no rows.
    """
    highest = max(row.score for row in rows)
    tied = [row for row in rows if row.score >= highest - ROUNDING]
    return max(tied, key=lambda row: (row.alpha, row.dampening_constant))


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
        held_out: (x, y) batches that are in neither set; read once for each pair. They may be contaminated:
            poison in them with the attacker's label makes healing look like a loss.
        progress: called with the number of pairs done.
    """
    held_out_before = _accuracy(problem.undampened(), held_out)
    forget_before = problem.victim_forget_accuracy()
    rows: list[GridRow] = []
    for alpha, constant in grid.pairs():
        evaluation = problem.evaluate_at(alpha, constant)
        after = _accuracy(problem.dampened(alpha, constant), held_out)
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
    return GridOutcome(
        rows=tuple(rows), forget_accuracy_before=forget_before, held_out_accuracy_before=held_out_before
    )


def _accuracy(model: nn.Module, data: Batches) -> float:
    return accuracy(*predict(model, data, "held-out data"))
