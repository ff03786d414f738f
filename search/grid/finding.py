"""What a search over pairs found: the pair with the highest score; see `Finding`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from ...rows import Row
from ..by_alpha import ByAlpha, chosen_columns
from ..dampening_problem import DampeningProblem, Evaluation
from .pairs import GridOutcome


@dataclass(frozen=True, kw_only=True)
class GridFinding(ByAlpha):
    """A finished grid.

    Attributes:
        outcome: every pair, evaluated.
        held_out_count: samples it was judged on, besides S_f.
    """

    outcome: GridOutcome
    held_out_count: int

    @property
    def status(self) -> str:
        """Return "no_stop" where no pair scores above 0: leaving the victim as it is does as well."""
        return "stopped" if self.outcome.improves else "no_stop"

    @property
    def chosen(self) -> Evaluation | None:
        """Return the evaluation of the winner; None where it does not improve on the victim."""
        if not self.outcome.improves:
            return None
        row = self.outcome.winner
        return Evaluation(alpha=row.alpha, dampened=row.dampened, forget_accuracy=row.forget_accuracy)

    @property
    def dampening_constant(self) -> float | None:
        """Return the winner's lambda."""
        return self.outcome.winner.dampening_constant if self.outcome.improves else None

    def rows(self) -> list[Row]:
        """Return one dict per pair: the fields of `GridRow`."""
        return [asdict(row) for row in self.outcome.rows]

    def columns(self) -> Row:
        """Return the columns of a run; a grid has neither s nor percentile, and its steps are the pairs."""
        return {
            **chosen_columns(self.chosen),
            "dampening_constant": self.dampening_constant,
            "steps": len(self.outcome.rows),
        }

    def metrics(self) -> Row:
        """Return held-out accuracy before and after, and the highest score of a pair (<= 0 for "no_stop")."""
        before, winner = self.outcome.held_out_accuracy_before, self.outcome.winner
        return {
            "held_out_count": self.held_out_count,
            "held_out_accuracy_before": before,
            "held_out_accuracy": winner.held_out_accuracy if self.outcome.improves else before,
            "score": winner.score,
        }

    def settings(self) -> Row:
        """Return no settings: nothing was derived from the data."""
        return {}

    def beyond_the_stop(self, problem: DampeningProblem, count: int) -> Iterator[Row]:
        """Return no rows: pairs have no order of aggressiveness."""
        return iter(())
