"""Poison Trigger Neutralisation search (Potion, section 3.2) as a pure state machine.

The search raises s from a careful start until the found poison is no longer believed:
    s_0 = (|S_f| / |S_tr|) / b_start,   p = 100 - ln(1 + 100 s),   s <- s * s_step
where p is the percentile of the importance ratios that gives alpha. It stops at the first step with
    Acc_forget <= rho * Acc_forget(victim).
The paper prints s_0 = ... * b_start; its text ("starts outside the critical zone") and the authors' program
mean division. Published numbers need rho = 0.2, b_start = 25, s_step = 1.1 and granularity "batch".

If the very first step already crosses, the start was too aggressive: the search walks back (s / s_step) and
takes the least aggressive crossing (ours; the paper saw no such case, per-sample importances have them).

The strategy "coarse_fine" (ours) takes 8 steps of the plain search at once until the side of the threshold
changes, and then the plain steps in between. Its settings are some of the plain search's, so where the forget
accuracy is monotone in s it gives the same answer with about an eighth of the evaluations. Where it is not,
coarse steps may pass over a crossing that comes and goes between two of them: the answer still crosses, but
may be more aggressive than the plain search's (after walking back: less aggressive).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ...errors import BadInput
from ..threshold import check_unlearnable, crosses

COARSE = 8

Status = Literal["searching", "stopped", "no_stop"]
Strategy = Literal["plain", "coarse_fine"]


@dataclass(frozen=True, kw_only=True)
class PTNStep:
    """One evaluated setting.

    Attributes:
        s: aggressiveness, > 0.
        percentile: p(s), in [0, 100].
        forget_accuracy: share of S_f predicted as labelled after dampening at p.
        crossed: whether that is at most the threshold.
    """

    s: float
    percentile: float
    forget_accuracy: float
    crossed: bool


@dataclass(frozen=True, kw_only=True)
class PTNState:
    """Where a search stands. Evaluate `percentile`, then call `PTNSearch.update`.

    Attributes:
        s: the next setting to evaluate; once stopped, the chosen one.
        threshold: rho * Acc_forget(victim).
        status: "searching"; "stopped" with the answer in ``s``; "no_stop" when nothing crossed.
        walked_back: the first step crossed already, so s was lowered instead of raised.
        offset: how many plain steps the last setting to evaluate is from the start; negative: walked back.
        fine_until: the offset that ends the fine steps of "coarse_fine", already evaluated; None before them.
        trace: every evaluated step, in the order of evaluation.
    """

    s: float
    threshold: float
    status: Status = "searching"
    walked_back: bool = False
    offset: int = 0
    fine_until: int | None = None
    trace: tuple[PTNStep, ...] = ()

    @property
    def percentile(self) -> float:
        """Return the percentile that belongs to ``s``."""
        return percentile_of(self.s)

    @property
    def chosen(self) -> PTNStep | None:
        """Return the step the search settled on: the least aggressive one that crossed."""
        crossings = [step for step in self.trace if step.crossed]
        return min(crossings, key=lambda step: step.s) if self.status == "stopped" else None


def percentile_of(s: float) -> float:
    """Compute p = 100 - ln(1 + 100 s), in [0, 100] (Potion eq. 7).

    Example:
        >>> percentile_of(0.0), round(percentile_of(0.1), 3)
        (100.0, 97.602)
    """
    return min(100.0, max(0.0, 100.0 - math.log1p(100.0 * s)))


class PTNSearch(BaseModel):
    """Settings of the search; the defaults are the paper's.

    Attributes:
        rho: forget-accuracy threshold as a share of the victim's, in [0, 1).
        b_start: how far below |S_f| / |S_tr| the search starts.
        s_step: factor from step to step, > 1.
        max_steps: plain steps after which a search that never crossed gives up, however many of them were
            evaluated.
        strategy: "plain", the paper's, or "coarse_fine"; see the module's docstring.

    Example:
        >>> search = PTNSearch(rho=0.2)
        >>> state = search.start(forget_count=100, train_count=50_000, victim_forget_accuracy=1.0)
        >>> for forget_accuracy in (0.9, 0.4, 0.1):
        ...     state = search.update(state, forget_accuracy)
        >>> state.status, len(state.trace), round(state.percentile, 2)
        ('stopped', 3, 99.99)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rho: float = Field(default=0.2, ge=0, lt=1)
    b_start: float = Field(default=25.0, gt=0)
    s_step: float = Field(default=1.1, gt=1)
    max_steps: int = Field(default=500, ge=1, le=2**31)
    strategy: Strategy = "plain"

    def start(self, *, forget_count: int, train_count: int, victim_forget_accuracy: float) -> PTNState:
        """Return the state before the first evaluation.

        Args:
            forget_count: |S_f|.
            train_count: |S_tr|, found poison included.
            victim_forget_accuracy: share of S_f that the victim predicts as labelled.

        Raises:
            BadInput: S_f is empty or not smaller than S_tr.
            NothingToUnlearn: the victim predicts no forget sample as labelled.
        """
        if not 0 < forget_count < train_count:
            raise BadInput(
                f"|S_f| = {forget_count} of |S_tr| = {train_count}: the forget set must hold at least one "
                f"sample and fewer than the training set; check which set is which"
            )
        check_unlearnable(victim_forget_accuracy)
        return PTNState(
            s=forget_count / train_count / self.b_start, threshold=self.rho * victim_forget_accuracy
        )

    def update(self, state: PTNState, forget_accuracy: float) -> PTNState:
        """Return the state after ``state.percentile`` gave ``forget_accuracy``, in [0, 1].

        Args:
            state: one whose status is "searching".
            forget_accuracy: share of S_f that is predicted as labelled, in [0, 1].
        """
        if state.status != "searching":
            raise ValueError(f"this search is over ({state.status}); there is nothing to update")
        if not 0 <= forget_accuracy <= 1:
            raise ValueError(f"forget accuracy {forget_accuracy} is not a share in [0, 1]")
        step = PTNStep(
            s=state.s,
            percentile=state.percentile,
            forget_accuracy=forget_accuracy,
            crossed=crosses(forget_accuracy, state.threshold),
        )
        first = not state.trace
        state = replace(
            state, trace=(*state.trace, step), walked_back=state.walked_back or (first and step.crossed)
        )
        if state.fine_until is not None:
            return self._go_on_finely(state, step, state.fine_until)
        if step.crossed == state.walked_back:
            return self._go_on(state, step)
        return self._turn_fine(state)

    def ahead(self, state: PTNState, count: int) -> PTNState:
        """Return where the search will stand after ``count`` more steps if none changes its direction.

        The forget accuracies in the trace of the result are made up. A search that is over stays so.

        Args:
            state: where the search stands.
            count: steps from there.
        """
        for _ in range(count):
            if state.status != "searching":
                break
            state = self.update(state, 0.0 if state.walked_back else 1.0)
        return state

    def replay(self, state: PTNState, forget_accuracies: Iterable[float]) -> PTNState:
        """Return the state after steps with these forget accuracies; any left when it is over are ignored.

        So several measurements of one search lead to the same state however they were divided among workers.

        Args:
            state: where the search stands.
            forget_accuracies: of the steps from there, in order, each in [0, 1].
        """
        for forget_accuracy in forget_accuracies:
            if state.status != "searching":
                break
            state = self.update(state, forget_accuracy)
        return state

    def _go_on(self, state: PTNState, step: PTNStep) -> PTNState:
        """Go up while nothing crosses, down while everything does; p = 0 or 100 is the end."""
        if not _at_the_end(state, step.percentile) and self._plain_steps_left(state):
            return self._advance(state, self._stride)
        return _stopped(state) if step.crossed else replace(state, status="no_stop")

    def _turn_fine(self, state: PTNState) -> PTNState:
        """Look between the last two coarse steps, if anything is: the side of the threshold has changed."""
        before = (len(state.trace) - 2) * self._stride * _direction(state)
        if abs(state.offset - before) == 1:
            return _stopped(state)
        return self._advance(replace(state, s=state.trace[-2].s, offset=before, fine_until=state.offset), 1)

    def _go_on_finely(self, state: PTNState, step: PTNStep, end: int) -> PTNState:
        changed = step.crossed != state.walked_back
        if changed or abs(end - state.offset) == 1:
            return _stopped(state)
        return self._advance(state, 1)

    @property
    def _stride(self) -> int:
        return COARSE if self.strategy == "coarse_fine" else 1

    def _plain_steps_left(self, state: PTNState) -> int:
        return self.max_steps - 1 - abs(state.offset)

    def _advance(self, state: PTNState, stride: int) -> PTNState:
        """Go up to ``stride`` plain steps on, one by one: s is then to the bit what the plain search has."""
        s, offset = state.s, state.offset
        for _ in range(min(stride, self._plain_steps_left(state))):
            s = s / self.s_step if state.walked_back else s * self.s_step
            offset += _direction(state)
            if _at_the_end(state, percentile_of(s)):
                break
        return replace(state, s=s, offset=offset)


def _direction(state: PTNState) -> int:
    return -1 if state.walked_back else 1


def _at_the_end(state: PTNState, percentile: float) -> bool:
    """Tell whether nothing gentler (walking back) or more aggressive exists."""
    return percentile >= 100.0 if state.walked_back else percentile <= 0.0


def _stopped(state: PTNState) -> PTNState:
    """Settle on the least aggressive crossing."""
    least = min(step.s for step in state.trace if step.crossed)
    return replace(state, s=least, status="stopped")
