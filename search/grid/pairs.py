"""The grid of selective synaptic dampening (Goel et al.; design.md section 2): alpha times lambda.

Everything but the work itself, which is that of `scorer`; importable without torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, field_validator

AlphaLambda = tuple[float, float]

ALPHAS = (0.1, 1.0, 10.0, 50.0, 100.0, 500.0, 1e3, 1e4, 1e5, 1e6)
RELATIVE_LAMBDAS = (0.1, 0.5, 1.0, 5.0, 10.0)

# sums of shares that are equal in truth differ by about this in floating point
ROUNDING = 1e-12


def check_sizes(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return ``values``, if they can be one side of a grid.

    Raises:
        ValueError: none at all, one twice, or one that is not a finite number above 0.
    """
    if not values:
        raise ValueError("give at least one number")
    if not all(0 < value < math.inf for value in values):
        raise ValueError("give finite numbers above 0")
    if len(set(values)) < len(values):
        raise ValueError("give every number once")
    return values


def check_range(value: tuple[float, float]) -> tuple[float, float]:
    """Return ``value``, if it can be the least and the greatest value on a logarithmic scale.

    Raises:
        ValueError: not finite, not above 0, or not in order.
    """
    low, high = value
    if not 0 < low < high < math.inf:
        raise ValueError("give the least and the greatest value, finite, above 0, in this order")
    return value


class GoelGrid(BaseModel):
    """Which pairs of alpha and lambda are tried; the defaults are the paper's 50.

    Attributes:
        alphas: selection thresholds, each finite and above 0, none twice.
        relative_lambdas: lambda as a multiple of alpha, likewise.

    Example:
        >>> from theriac.search.grid import GoelGrid
        >>> GoelGrid(alphas=(1.0, 10.0), relative_lambdas=(0.5,)).pairs()
        [(10.0, 5.0), (1.0, 0.5)]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    alphas: tuple[float, ...] = ALPHAS
    relative_lambdas: tuple[float, ...] = RELATIVE_LAMBDAS

    @field_validator("alphas", "relative_lambdas")
    @classmethod
    def _sizes(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return check_sizes(values)

    def pairs(self) -> list[AlphaLambda]:
        """List (alpha, lambda), the least aggressive first: the largest alpha, then the largest lambda."""
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
        """Return the row with the highest score; see `best`."""
        return best(self.rows)

    @property
    def improves(self) -> bool:
        """Tell whether the winner scores above 0, which is the score of leaving the victim as it is."""
        return self.winner.score > ROUNDING


def score(forget_drop: float, held_out_change: float) -> float:
    """Add up the drop of accuracy on S_f and the change of accuracy on held-out data, weighted equally.

    Args:
        forget_drop: Acc_forget(victim) - Acc_forget, in [-1, 1].
        held_out_change: accuracy on held-out data less the victim's, in [-1, 1].
    """
    return forget_drop + held_out_change


def best(rows: Sequence[GridRow]) -> GridRow:
    """Return the row with the highest score; of equal ones the least aggressive.

    That is the one of the largest alpha, then the largest lambda.

    Raises:
        ValueError: no rows.
    """
    highest = max(row.score for row in rows)
    tied = [row for row in rows if row.score >= highest - ROUNDING]
    return max(tied, key=lambda row: (row.alpha, row.dampening_constant))
