"""What findings share whose weights follow from alpha and lambda."""

from __future__ import annotations

from torch import nn

from ..rows import Row
from .dampening_problem import DampeningProblem, Evaluation
from .interface import Finding


class ByAlpha:
    """Weights that alpha and lambda determine."""

    def at_the_stop(self: Finding, problem: DampeningProblem) -> nn.Module:
        """Return the model at the stop; see `Finding`."""
        if self.chosen is None:
            return problem.undampened()
        return problem.dampened(self.chosen.alpha, self.dampening_constant)

    def model_of(self, problem: DampeningProblem, number: int, row: Row) -> nn.Module:
        """Return the model of a row; see `Finding`."""
        return problem.dampened(row["alpha"], row["dampening_constant"])


def chosen_columns(chosen: Evaluation | None) -> Row:
    """Return the columns of the table ``searches`` that describe the setting a search settled on."""
    return {
        "alpha": None if chosen is None else chosen.alpha,
        "dampened": 0 if chosen is None else chosen.dampened,
    }
