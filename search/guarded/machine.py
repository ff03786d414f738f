"""Guarded search (ours) as a pure state machine: dampen in the order of a ranking, and watch retain.

The ranking is `GuardedProblem`'s. A step dampens its first ``count`` weights, but those left out, and gives
    healed         the share of the suspected samples (found poison, and retain samples that respond to
                   dampening as it does) that are no longer predicted as labelled;
    flips_target   the share of the other retain samples labelled and predicted as a target whose
                   prediction changes;
    flips_other    that share of retain samples of the other classes that were predicted as labelled;
    harm           the accuracy lost on both, weighted by how often either occurs in retain: unlike the flips
                   it also counts what was mistaken and is now predicted as labelled, and each sample by how
                   sure its prediction is; see `watching.belief`.
Its score is healed - harm_weight * harm. Retain samples are nudged by a pixel first; see `watching.nudged`.

First the search scouts: it doubles the count (halves it, where the first one already does it) until half of
the suspected samples are healed, which costs few images. Then it walks on from the last count before that,
by a quarter at a time, and measures the flips, too. Where a step lowers the score, or harms too much, because
either kind of flip jumps, by more than its probe's noise and by a part of the largest harm, it is halved,
until the weights that make it jump stand alone: they are left out. Damage that is spread over many weights
passes the halves, and counts in the score.

The walk is over where no later step can score higher, as healed is at most 1. The answer is the accepted
step of the highest score among those that heal half and harm no more than `most_harm`; if there is none, the
status is "no_stop".

design.md counts flips_T over all retain samples of the target classes; here suspected ones are apart, so that
healing them is no harm, whatever their share.

No held-out truth is used anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Phase = Literal["scouting", "walking", "over"]
Verdict = Literal["scouted", "accepted", "rejected", "left_out"]

ENOUGH = 0.5
"""The share of the suspected samples that a stop heals at least."""
GROWTH = 1.25
NOISE = 3.0
"""Standard deviations of a probe that a step may add to its flips without being looked into."""
COSTLY = 0.25
"""So may it what adds less than this part of the largest harm."""
SCOUTED = 256
"""The first count is the ranking's length over this."""
MOST_LEFT_OUT = 64
MOST_STEPS = 200


@dataclass(frozen=True, kw_only=True)
class GuardedStep:
    """One measured step.

    Attributes:
        count: ranks dampened, from the first, but those left out.
        left_out: their ranks, from 0, ascending.
        healed: share of the suspected samples.
        flips_target, flips_other: shares of the probes; None while scouting.
        harm: accuracy lost, at least 0; None likewise.
        verdict: "scouted", "accepted", "rejected" (it is halved next), or "left_out": the weight of the last
            rank was, because of this step.
        score: of an accepted step.
    """

    count: int
    left_out: tuple[int, ...]
    healed: float
    flips_target: float | None
    flips_other: float | None
    harm: float | None
    verdict: Verdict
    score: float | None = None


class Probes(BaseModel):
    """How large the sets are that a step is measured on.

    Attributes:
        suspected: found poison and retain samples that respond like it, at least 1.
        target: other retain samples labelled and predicted as a target.
        other: retain samples of other classes.
        target_rate: t, how often samples of the second sort occur among both, in [0, 1].
        limit: length of the ranking; 0 where nothing tells the found poison from other samples of its class:
            such a search is over before it begins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    suspected: int = Field(ge=1)
    target: int = Field(ge=0)
    other: int = Field(ge=0)
    target_rate: float = Field(ge=0, le=1)
    limit: int = Field(ge=0)


@dataclass(frozen=True, kw_only=True)
class GuardedState:
    """Where a search stands. Measure `count`, without `left_out`, then call `GuardedSearch.update`.

    Attributes:
        probes: sizes of what is measured.
        count: ranks to dampen next.
        phase: "scouting" (only ``healed`` is needed), "walking", or "over".
        accepted: ranks of the last accepted step.
        left_out: ranks left out so far, ascending.
        pending: ends of the steps that are due after ``count``, the next one last.
        flips: (target, other) of the last accepted step.
        score: of that step; at first that of the victim.
        trace: all measured steps.
    """

    probes: Probes
    count: int
    phase: Phase = "scouting"
    accepted: int = 0
    left_out: tuple[int, ...] = ()
    pending: tuple[int, ...] = ()
    flips: tuple[float, float] = (0.0, 0.0)
    score: float = 0.0
    trace: tuple[GuardedStep, ...] = ()

    @property
    def status(self) -> Literal["searching", "over"]:
        """Tell whether anything is left to measure."""
        return "over" if self.phase == "over" else "searching"


class GuardedSearch(BaseModel):
    """Settings of the search. docs/guarded.md says on which victims the defaults were chosen.

    Attributes:
        harm_weight: what a point of accuracy costs, in points of suspected samples healed.
        most_harm: the largest harm a stop may do, in (0, 1].
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    harm_weight: float = Field(default=12.0, gt=0)
    most_harm: float = Field(default=0.06, gt=0, le=1)

    def start(self, probes: Probes) -> GuardedState:
        """Return the state before the first step."""
        phase: Phase = "scouting" if probes.limit else "over"
        return GuardedState(probes=probes, count=max(1, probes.limit // SCOUTED), phase=phase)

    def update(
        self,
        state: GuardedState,
        healed: float,
        flips_target: float | None = None,
        flips_other: float | None = None,
        harm: float | None = None,
    ) -> GuardedState:
        """Return the state after ``state.count`` was measured.

        Args:
            state: a search that is not over.
            healed: share of the suspected samples, in [0, 1].
            flips_target: share of the target probe, in [0, 1], 0 for an empty one; not looked at while
                scouting.
            flips_other: share of the other probe, likewise.
            harm: accuracy lost, in [0, 1], likewise.

        Raises:
            ValueError: the search is over, or what walking needs is missing.
        """
        if state.phase == "over":
            raise ValueError("this search is over; there is nothing to update")
        if state.phase == "scouting":
            return self._scout(state, healed)
        if flips_target is None or flips_other is None or harm is None:
            raise ValueError("a walking search needs the flips of both probes, and the harm")
        return self._walk(state, healed, (flips_target, flips_other), harm)

    def replay(self, probes: Probes, measures: Iterable[Measures]) -> GuardedState:
        """Return the state after steps that gave these measures; those left when it is over are ignored.

        Args:
            probes: sizes of the sets that steps are measured on.
            measures: (healed, flips_target, flips_other, harm) of each step, in order.
        """
        state = self.start(probes)
        for measured in measures:
            if state.phase == "over":
                break
            state = self.update(state, *measured)
        return state

    def chosen(self, state: GuardedState) -> GuardedStep | None:
        """Return the answer of a search that is over, or of what it has seen so far; None: no stop."""
        fit = [step for step in state.trace if self._fits(step)]
        return max(fit, key=lambda step: step.score or 0.0, default=None)

    def flat(self, state: GuardedState) -> tuple[int, int] | None:
        """Return the counts of the first and last step whose score cannot be told from the chosen one's.

        Such steps fit, and score at most one standard deviation of the probes less.
        """
        best = self.chosen(state)
        if best is None or best.score is None:
            return None
        least = best.score - self._deviation(best, state.probes)
        flat = [s.count for s in state.trace if self._fits(s) and (s.score or 0.0) >= least]
        return min(flat), max(flat)

    def harm_at_most(self, state: GuardedState, step: GuardedStep) -> float:
        """Return the harm that the probes cannot rule out: that of an accepted step and two deviations more.

        The deviation is that of its flips, which on CIFAR-10 victims was the larger one.

        Args:
            state: that the step is of.
            step: an accepted one.

        Returns:
            A share of predictions, in [0, 1] but for the deviations.
        """
        return (step.harm or 0.0) + 2.0 * math.sqrt(_harm_variance(step, state.probes))

    def _fits(self, step: GuardedStep) -> bool:
        accepted = step.verdict == "accepted" and step.healed >= ENOUGH
        return accepted and step.harm is not None and step.harm <= self.most_harm

    def _deviation(self, step: GuardedStep, probes: Probes) -> float:
        """Return the standard deviation of a score: binomial, the sets being independent."""
        healed = _variance(step.healed, probes.suspected)
        return math.sqrt(healed + self.harm_weight**2 * _harm_variance(step, probes))

    def _scout(self, state: GuardedState, healed: float) -> GuardedState:
        """Double the count until half is healed; or halve it until less is."""
        step = GuardedStep(
            count=state.count,
            left_out=(),
            healed=healed,
            flips_target=None,
            flips_other=None,
            harm=None,
            verdict="scouted",
        )
        first, enough = not state.trace, healed >= ENOUGH
        down = enough if first else state.trace[0].healed >= ENOUGH
        state = replace(state, trace=(*state.trace, step))
        if down and enough and state.count > 1:
            return replace(state, count=state.count // 2)
        if not down and not enough:
            full = state.count >= state.probes.limit
            return replace(state, phase="over") if full else replace(state, count=self._within(state, 2))
        before = state.count if down else state.trace[-2].count
        return replace(state, phase="walking", count=before)

    def _walk(
        self, state: GuardedState, healed: float, flips: tuple[float, float], harm: float
    ) -> GuardedState:
        score = healed - self.harm_weight * harm
        costs = score < state.score or harm > self.most_harm
        jump = costs and self._jumps(state, flips)
        alone = state.count - state.accepted == 1
        verdict: Verdict = "accepted" if not jump else "left_out" if alone else "rejected"
        step = GuardedStep(
            count=state.count,
            left_out=state.left_out,
            healed=healed,
            flips_target=flips[0],
            flips_other=flips[1],
            harm=harm,
            verdict=verdict,
            score=None if jump else score,
        )
        state = replace(state, trace=(*state.trace, step))
        if verdict == "rejected":
            middle = (state.accepted + state.count) // 2
            state = replace(state, count=middle, pending=(*state.pending, state.count))
            return replace(state, phase="over") if len(state.trace) >= MOST_STEPS else state
        if verdict == "left_out":
            state = replace(state, left_out=(*state.left_out, state.accepted))
        else:
            state = replace(state, flips=flips, score=score)
        return self._go_on(replace(state, accepted=state.count))

    def _go_on(self, state: GuardedState) -> GuardedState:
        if self._no_use(state):
            return replace(state, phase="over")
        if state.pending:
            return replace(state, count=state.pending[-1], pending=state.pending[:-1])
        return replace(state, count=self._within(state, GROWTH))

    def _no_use(self, state: GuardedState) -> bool:
        """Tell whether no later step can be the answer: harm stays what it is, and healed is at most 1."""
        last, best = state.trace[-1], self.chosen(state)
        full = state.accepted >= state.probes.limit
        if full or len(state.trace) >= MOST_STEPS or len(state.left_out) > MOST_LEFT_OUT:
            return True
        if last.verdict != "accepted" or last.harm is None:
            return False
        return last.harm > self.most_harm or (
            best is not None and best.score is not None and 1.0 - self.harm_weight * last.harm <= best.score
        )

    def _jumps(self, state: GuardedState, flips: tuple[float, float]) -> bool:
        """Tell whether either kind of flip rises by more than its probe's noise, at a cost that matters."""
        rate = state.probes.target_rate
        sizes = (state.probes.target, state.probes.other)
        return any(
            new - old > NOISE * math.sqrt(_variance(max(old, 1.0 / size), size))
            and weight * (new - old) > self.most_harm * COSTLY
            for size, weight, old, new in zip(sizes, (rate, 1 - rate), state.flips, flips, strict=True)
            if size
        )

    def _within(self, state: GuardedState, factor: float) -> int:
        return min(state.probes.limit, max(state.count + 1, math.ceil(state.count * factor)))


Measures = tuple[float, float | None, float | None, float | None]
"""Healed, flips_target, flips_other, harm of a step."""


def _harm_variance(step: GuardedStep, probes: Probes) -> float:
    """Return the binomial variance of a step's harm.

    A probe in which nothing flips may have missed one sample.
    """
    rate = probes.target_rate
    parts = (
        (rate, step.flips_target or 0.0, probes.target),
        (1.0 - rate, step.flips_other or 0.0, probes.other),
    )
    return sum(
        weight**2 * _variance(min(1.0, max(flips, 1.0 / size)), size) for weight, flips, size in parts if size
    )


def _variance(share: float, count: int) -> float:
    """Return the variance of a share counted in ``count`` samples; that of an empty set is 0."""
    return share * (1.0 - share) / count if count else 0.0
