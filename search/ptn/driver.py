"""Drive a PTN search over a `DampeningProblem`: to its end, or some steps further."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from ...rows import Row
from ..dampening_problem import BoundedEvaluation, DampeningProblem, Evaluation
from ..interface import Count
from .finding import PTNFinding, SearchOutcome
from .machine import PTNSearch, PTNState
from .start import PTNStart


def advance_ptn(
    search: PTNSearch,
    state: PTNState,
    problem: DampeningProblem,
    progress: Callable[[int], None] | None = None,
    *,
    count: int | None = None,
    early_exit: bool = True,
) -> tuple[PTNState, list[Evaluation]]:
    """Evaluate up to ``count`` steps (None: all that are left); the state after them, and what they gave.

    The arguments are those of `run_ptn`.
    """
    evaluations: list[Evaluation] = []
    threshold = state.threshold if early_exit else None
    while state.status == "searching" and (count is None or len(evaluations) < count):
        evaluations.append(problem.evaluate(state.percentile, threshold=threshold))
        state = search.update(state, evaluations[-1].forget_accuracy)
        if progress:
            progress(len(state.trace))
    return state, evaluations


def run_ptn(
    search: PTNSearch,
    state: PTNState,
    problem: DampeningProblem,
    progress: Callable[[int], None] | None = None,
    *,
    early_exit: bool = True,
) -> SearchOutcome:
    """Drive the state machine to its end.

    Args:
        search: its settings.
        state: where to start.
        problem: what is searched.
        progress: called with the number of steps done.
        early_exit: where S_f has several batches or pieces, stop measuring a step once it is certain on which
            side of the threshold it lies. Steps, stop and alpha are the same; the forget accuracies of the
            other steps may then be bounds. That of the chosen step is exact.
    """
    end, evaluations = advance_ptn(search, state, problem, progress, early_exit=early_exit)
    return conclude_ptn(end, evaluations, problem)


def conclude_ptn(
    state: PTNState, evaluations: Iterable[Evaluation], problem: DampeningProblem
) -> SearchOutcome:
    """Conclude a search that is over: one evaluation per step of its trace, the chosen one exact."""
    outcome = _with_exact_choice(SearchOutcome(state=state, evaluations=tuple(evaluations)), problem)
    problem.release()
    return outcome


def evaluation_from(row: dict[str, Any]) -> Evaluation:
    """Return the evaluation that `row_from` wrote."""
    values = {name: value for name, value in row.items() if name != "exact"}
    return Evaluation(**values) if row["exact"] else BoundedEvaluation(**values)


def row_from(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as scalars, for JSON."""
    return {**asdict(evaluation), "exact": evaluation.exact}


def _with_exact_choice(outcome: SearchOutcome, problem: DampeningProblem) -> SearchOutcome:
    """Measure the chosen step to its end, if that was not done."""
    step, chosen = outcome.state.chosen, outcome.chosen
    if step is None or chosen is None or chosen.exact:
        return outcome
    evaluation = problem.evaluate_at(chosen.alpha)
    exact = replace(step, forget_accuracy=evaluation.forget_accuracy)
    trace = tuple(exact if one is step else one for one in outcome.state.trace)
    evaluations = tuple(evaluation if one is chosen else one for one in outcome.evaluations)
    return SearchOutcome(state=replace(outcome.state, trace=trace), evaluations=evaluations)


class PTNSearching:
    """A PTN search.

    Args:
        start: settings and sizes.
        problem: what is searched.
        dampening_constant: lambda of all steps.
    """

    def __init__(self, start: PTNStart, problem: DampeningProblem, dampening_constant: float) -> None:
        self.start = start
        self._problem, self._dampening_constant = problem, dampening_constant

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """Evaluate the settings that follow; see `Searching`."""
        search = self.start.search
        state = search.ahead(self.start.after(history), skip)
        _, evaluations = advance_ptn(search, state, self._problem, progress, count=count)
        return [row_from(evaluation) for evaluation in evaluations]

    def finding(self, history: Sequence[Row]) -> PTNFinding:
        """Return what the search found; see `Searching`."""
        evaluations = [evaluation_from(row) for row in history]
        outcome = conclude_ptn(self.start.after(history), evaluations, self._problem)
        return PTNFinding(
            search=self.start.search, outcome=outcome, constant_of_steps=self._dampening_constant
        )
