"""What a guarded search found; see `Finding`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from ...rows import Row
from ..dampening_problem import DampeningProblem, Evaluation
from .machine import GuardedState, GuardedStep
from .problem import GuardedProblem
from .start import GuardedStart


@dataclass(frozen=True, kw_only=True)
class GuardedFinding:
    """A finished guarded search.

    Attributes:
        start: settings and sizes of the probes.
        state: its end.
        problem: what was searched.
        constant_of_steps: lambda of all steps.
        step: the answer; None: no stop.
        chosen: the answer on all of S_f; None likewise.
    """

    start: GuardedStart
    state: GuardedState
    problem: GuardedProblem
    constant_of_steps: float
    step: GuardedStep | None
    chosen: Evaluation | None

    @classmethod
    def of(
        cls, start: GuardedStart, state: GuardedState, problem: GuardedProblem, dampening_constant: float
    ) -> GuardedFinding:
        """Measure the answer on all of S_f."""
        step = start.search.chosen(state)
        chosen = None if step is None else problem.evaluate_count(step.count, step.left_out)
        return cls(
            start=start,
            state=state,
            problem=problem,
            constant_of_steps=dampening_constant,
            step=step,
            chosen=chosen,
        )

    @property
    def status(self) -> str:
        """Return "no_stop" where no step heals half of what is suspected without too much harm."""
        return "no_stop" if self.step is None else "stopped"

    @property
    def dampening_constant(self) -> float | None:
        """Return lambda, if there is a stop."""
        return None if self.step is None else self.constant_of_steps

    def rows(self) -> list[Row]:
        """Return one dict per step; ``left_out`` names the weights, with spaces between."""
        return [self._row(step) for step in self.state.trace]

    def columns(self) -> Row:
        """Return the stop, and what it was found with."""
        flat = self.start.search.flat(self.state)
        step = self.step
        return {
            "alpha": None if self.chosen is None else self.chosen.alpha,
            "dampened": 0 if self.chosen is None else self.chosen.dampened,
            "dampening_constant": self.constant_of_steps,
            "steps": len(self.state.trace),
            "score": None if step is None else step.score,
            "harm": None if step is None else step.harm,
            "suspects": self.problem.watched.suspects,
            "left_out": self._names(() if step is None else step.left_out),
            "flat": None if flat is None else [self.problem.alpha_of(count) for count in reversed(flat)],
        }

    def metrics(self) -> Row:
        """Return what was suspected, what the stop heals of it and harms, and how flat the score is there.

        ``flat`` holds the alphas between which the score cannot be told from the best. ``harm`` is the share
        of accuracy that is lost, estimated; ``harm_at_most`` two standard deviations more; ``harm_if_wrong``
        what is lost if the suspects were no poison.
        """
        watched, step, columns = self.problem.watched, self.step, self.columns()
        return {
            **{name: columns[name] for name in ("score", "suspects", "left_out", "flat")},
            "found_looked_at": watched.found,
            "found_doubted": watched.doubted,
            "separation": watched.separation,
            "apart": watched.apart,
            "suspected_healed": None if step is None else step.healed,
            "flips_target": None if step is None else step.flips_target,
            "flips_other": None if step is None else step.flips_other,
            **self._harms(),
        }

    def _harms(self) -> Row:
        """Return the harm, what the probes cannot rule out, and what is lost if all suspects are clean."""
        step, names = self.step, ("harm", "harm_at_most", "harm_if_wrong")
        if step is None:
            return dict.fromkeys(names)
        most = self.start.search.harm_at_most(self.state, step)
        return dict(zip(names, (step.harm, most, most + self.problem.watched.suspected_rate), strict=True))

    def settings(self) -> Row:
        """Return no settings: nothing was derived from the data."""
        return {}

    def beyond_the_stop(self, problem: DampeningProblem, count: int) -> Iterator[Row]:
        """Return no rows: the search itself walks on until nothing better can follow."""
        return iter(())

    def model_of(self, problem: DampeningProblem, number: int, row: Row) -> nn.Module:
        """Return the model of a step; see `Finding`."""
        step = self.state.trace[number]
        return self.problem.dampened_to(step.count, step.left_out)

    def at_the_stop(self, problem: DampeningProblem) -> nn.Module:
        """Return the model at the stop; see `Finding`."""
        if self.step is None:
            return self.problem.undampened()
        return self.problem.dampened_to(self.step.count, self.step.left_out)

    def _row(self, step: GuardedStep) -> Row:
        return {
            "alpha": self.problem.alpha_of(step.count),
            "dampened": step.count - len(step.left_out),
            "dampening_constant": self.constant_of_steps,
            "suspected_healed": step.healed,
            "flips_target": step.flips_target,
            "flips_other": step.flips_other,
            "harm": step.harm,
            "status": step.verdict,
            "left_out": self._names(step.left_out),
            "score": step.score,
        }

    def _names(self, ranks: tuple[int, ...]) -> str:
        return " ".join(self.problem.name_of(rank) for rank in ranks)
