"""What a PTN search found: its stop, and one evaluation per step; see `Finding`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ...rows import Row
from ..by_alpha import ByAlpha, chosen_columns
from ..dampening_problem import DampeningProblem, Evaluation
from ..threshold import crosses
from .machine import PTNSearch, PTNState, percentile_of


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """A finished PTN search: the state, and one evaluation per step of its trace."""

    state: PTNState
    evaluations: tuple[Evaluation, ...]

    @property
    def chosen(self) -> Evaluation | None:
        """Return the evaluation of the step the search settled on, always exact; None if it never crossed."""
        step = self.state.chosen
        return None if step is None else self.evaluations[self.state.trace.index(step)]

    def rows(self) -> list[dict[str, Any]]:
        """Return one dict per evaluated step: s, percentile, alpha, dampened, forget_accuracy, crossed.

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


@dataclass(frozen=True, kw_only=True)
class PTNFinding(ByAlpha):
    """A finished PTN search.

    Attributes:
        search: its settings.
        outcome: state and evaluations of every step.
        constant_of_steps: lambda of all steps.
    """

    search: PTNSearch
    outcome: SearchOutcome
    constant_of_steps: float

    @property
    def status(self) -> str:
        """Return the status of the state: "stopped", or "no_stop" where no step crossed."""
        return self.outcome.state.status

    @property
    def chosen(self) -> Evaluation | None:
        """Return the evaluation at the stop."""
        return self.outcome.chosen

    @property
    def dampening_constant(self) -> float | None:
        """Return lambda, if there is a stop."""
        return None if self.chosen is None else self.constant_of_steps

    def rows(self) -> list[Row]:
        """Return the evaluated steps with ``dampening_constant``; see `SearchOutcome.rows`."""
        return [{**row, "dampening_constant": self.constant_of_steps} for row in self.outcome.rows()]

    def columns(self) -> Row:
        """Return the columns of a run with s and percentile; lambda also without a stop: all steps had it."""
        state, stopped = self.outcome.state, self.chosen is not None
        return {
            "s": state.s if stopped else None,
            "percentile": state.percentile if stopped else None,
            **chosen_columns(self.chosen),
            "dampening_constant": self.constant_of_steps,
            "steps": len(self.outcome.evaluations),
        }

    def metrics(self) -> Row:
        """Tell whether the search walked back."""
        return {"walked_back": self.outcome.state.walked_back}

    def settings(self) -> Row:
        """Return rho, which may have been "auto"."""
        return {"rho": self.search.rho}

    def beyond_the_stop(self, problem: DampeningProblem, count: int) -> Iterator[Row]:
        """Measure the next settings of s that were not evaluated: what over-forgetting would cost."""
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
                "dampening_constant": self.constant_of_steps,
            }
