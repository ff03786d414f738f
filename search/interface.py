"""What a search found, under one interface: PTN's stop, or the winner of Goel's grid."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from torch import nn

from .dampening_problem import DampeningProblem, Evaluation
from .grid.pairs import GridOutcome
from .ptn.driver import SearchOutcome
from .ptn.machine import PTNSearch, crosses, percentile_of

Row = dict[str, Any]


class Finding(Protocol):
    """A finished search.

    Attributes:
        status: "stopped" or "no_stop".
        chosen: the setting it settled on, measured exactly; None for "no_stop".
        dampening_constant: lambda of that setting; None for "no_stop".
    """

    @property
    def status(self) -> str: ...

    @property
    def chosen(self) -> Evaluation | None: ...

    @property
    def dampening_constant(self) -> float | None: ...

    def rows(self) -> list[Row]:
        """One dict per evaluated setting, in the order of evaluation: columns of the table ``steps``."""
        ...

    def columns(self) -> Row:
        """What it settled on, after how many settings: columns of the table ``searches``."""
        ...

    def metrics(self) -> Row:
        """What only this search can report."""
        ...

    def settings(self) -> Row:
        """Settings that were derived from the data."""
        ...

    def beyond_the_stop(self, problem: DampeningProblem, count: int) -> Iterator[Row]:
        """Rows of up to ``count`` settings more aggressive than the stop; none where nothing is."""
        ...

    def at_the_stop(self, problem: DampeningProblem) -> nn.Module:
        """The problem's working copy with the weights of the stop; the victim's without one."""
        ...

    def model_of(self, problem: DampeningProblem, number: int, row: Row) -> nn.Module:
        """That of row ``number`` of `rows`, or of a row beyond the stop."""
        ...


class _ByAlpha:
    """Weights that alpha and lambda determine."""

    def at_the_stop(self: Finding, problem: DampeningProblem) -> nn.Module:
        """See `Finding`."""
        if self.chosen is None:
            return problem.undampened()
        return problem.dampened(self.chosen.alpha, self.dampening_constant)

    def model_of(self, problem: DampeningProblem, number: int, row: Row) -> nn.Module:
        """See `Finding`."""
        return problem.dampened(row["alpha"], row["dampening_constant"])


@dataclass(frozen=True, kw_only=True)
class PTNFinding(_ByAlpha):
    """A finished PTN search.

    Attributes:
        search: its settings.
        outcome: state and evaluations of every step.
        constant: lambda of all steps.
    """

    search: PTNSearch
    outcome: SearchOutcome
    constant: float

    @property
    def status(self) -> str:
        """Of the state: "stopped", or "no_stop" where no step crossed."""
        return self.outcome.state.status

    @property
    def chosen(self) -> Evaluation | None:
        """The evaluation at the stop."""
        return self.outcome.chosen

    @property
    def dampening_constant(self) -> float | None:
        """Lambda, if there is a stop."""
        return None if self.chosen is None else self.constant

    def rows(self) -> list[Row]:
        """See `SearchOutcome.rows`; with ``dampening_constant``."""
        return [{**row, "dampening_constant": self.constant} for row in self.outcome.rows()]

    def columns(self) -> Row:
        """With s and percentile; lambda also without a stop: all steps had it."""
        state, stopped = self.outcome.state, self.chosen is not None
        return {
            "s": state.s if stopped else None,
            "percentile": state.percentile if stopped else None,
            **_chosen_columns(self.chosen),
            "dampening_constant": self.constant,
            "steps": len(self.outcome.evaluations),
        }

    def metrics(self) -> Row:
        """Whether the search walked back."""
        return {"walked_back": self.outcome.state.walked_back}

    def settings(self) -> Row:
        """Rho, which may have been "auto"."""
        return {"rho": self.search.rho}

    def beyond_the_stop(self, problem: DampeningProblem, count: int) -> Iterator[Row]:
        """The next settings of s that were not evaluated, measured now: what over-forgetting would cost."""
        state = self.outcome.state
        if self.chosen is None:
            return
        s, evaluated = state.s, {step.s for step in state.trace}
        for _ in range(count):
            s *= self.search.s_step
            if s in evaluated:
                continue
            evaluation = problem.evaluate(percentile_of(s))
            yield {
                "s": s,
                "percentile": percentile_of(s),
                **asdict(evaluation),
                "crossed": crosses(evaluation.forget_accuracy, state.threshold),
                "dampening_constant": self.constant,
            }


@dataclass(frozen=True, kw_only=True)
class GridFinding(_ByAlpha):
    """A finished grid.

    Attributes:
        outcome: every pair, evaluated.
        held_out_count: samples it was judged on, besides S_f.
    """

    outcome: GridOutcome
    held_out_count: int

    @property
    def status(self) -> str:
        """A grid is "no_stop" where no pair scores above 0: leaving the victim as it is does as well."""
        return "stopped" if self.outcome.improves else "no_stop"

    @property
    def chosen(self) -> Evaluation | None:
        """The winner."""
        if not self.outcome.improves:
            return None
        row = self.outcome.winner
        return Evaluation(alpha=row.alpha, dampened=row.dampened, forget_accuracy=row.forget_accuracy)

    @property
    def dampening_constant(self) -> float | None:
        """The winner's lambda."""
        return self.outcome.winner.dampening_constant if self.outcome.improves else None

    def rows(self) -> list[Row]:
        """One dict per pair: the fields of `GridRow`."""
        return [asdict(row) for row in self.outcome.rows]

    def columns(self) -> Row:
        """A grid has neither s nor percentile; its steps are the pairs."""
        return {
            **_chosen_columns(self.chosen),
            "dampening_constant": self.dampening_constant,
            "steps": len(self.outcome.rows),
        }

    def metrics(self) -> Row:
        """Held-out accuracy before and after, and the highest score of a pair (at most 0 for "no_stop")."""
        before, winner = self.outcome.held_out_accuracy_before, self.outcome.winner
        return {
            "held_out_count": self.held_out_count,
            "held_out_accuracy_before": before,
            "held_out_accuracy": winner.held_out_accuracy if self.outcome.improves else before,
            "score": winner.score,
        }

    def settings(self) -> Row:
        """None."""
        return {}

    def beyond_the_stop(self, problem: DampeningProblem, count: int) -> Iterator[Row]:
        """Nothing: pairs have no order of aggressiveness."""
        return iter(())


def _chosen_columns(chosen: Evaluation | None) -> Row:
    return {
        "alpha": None if chosen is None else chosen.alpha,
        "dampened": 0 if chosen is None else chosen.dampened,
    }
