"""Poison Trigger Neutralisation search (Potion, section 3.2) as a pure state machine.

The search raises s from a careful start until the found poison is no longer believed:
    s_0 = (|S_f| / |S_tr|) / b_start,   p = 100 - ln(1 + 100 s),   s <- s * s_step
where p is the percentile of the importance ratios that gives alpha. It stops at the first step with
    Acc_forget <= rho * Acc_forget(victim).
The paper prints s_0 = ... * b_start; its text ("starts outside the critical zone") and the authors' program
mean division. Published numbers need rho = 0.2, b_start = 25, s_step = 1.1 and granularity "batch".

If the very first step already crosses, the start was too aggressive: the search walks back (s / s_step) and
takes the least aggressive crossing (ours; the paper saw no such case, per-sample importances have them).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ..errors import BadInput

# 0.2 * 0.35 is a little below 0.07 in floating point, and 7 of 100 must still count as reaching it
ROUNDING = 1e-12

Status = Literal["searching", "stopped", "no_stop"]


class NothingToUnlearn(BadInput):
    """The victim predicts none of the forget samples as labelled, so no accuracy can be brought down."""


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
        trace: every evaluated step, in the order of evaluation.
    """

    s: float
    threshold: float
    status: Status = "searching"
    walked_back: bool = False
    trace: tuple[PTNStep, ...] = ()

    @property
    def percentile(self) -> float:
        """The percentile that belongs to ``s``."""
        return percentile_of(self.s)

    @property
    def chosen(self) -> PTNStep | None:
        """The step the search settled on: the least aggressive one that crossed."""
        crossings = [step for step in self.trace if step.crossed]
        return min(crossings, key=lambda step: step.s) if self.status == "stopped" else None


def check_unlearnable(victim_forget_accuracy: float) -> None:
    """Refuse a forget set that the victim does not believe.

    Raises:
        NothingToUnlearn: the forget accuracy is 0 or not a share.
    """
    if not 0 < victim_forget_accuracy <= 1:
        raise NothingToUnlearn(
            f"the model predicts {victim_forget_accuracy:.0%} of the forget set as labelled, so there is "
            f"nothing to unlearn; give the labels the poison was trained with (not the true ones), and "
            f"preprocess the images as in training"
        )


def percentile_of(s: float) -> float:
    """P = 100 - ln(1 + 100 s), in [0, 100] (Potion eq. 7)."""
    return min(100.0, max(0.0, 100.0 - math.log1p(100.0 * s)))


def automatic_rho(target_rate: float, forget_count: int) -> float:
    """A rho that can be reached without wrecking the model (ours).

    A share ``target_rate`` of S_f may truly be of its target class, and those samples should keep their
    label. They are counted in a sample of ``forget_count``, so two binomial standard deviations are added.

    Args:
        target_rate: how often the victim predicts the target class on retain, in [0, 1].
        forget_count: |S_f|, at least 1.

    Returns:
        rho in [0, 0.95].
    """
    spread = math.sqrt(target_rate * (1.0 - target_rate) / forget_count)
    return min(0.95, target_rate + 2.0 * spread)


class PTNSearch(BaseModel):
    """Settings of the search; the defaults are the paper's.

    Attributes:
        rho: forget-accuracy threshold as a share of the victim's, in [0, 1).
        b_start: how far below |S_f| / |S_tr| the search starts.
        s_step: factor from step to step, > 1.
        max_steps: evaluations after which a search that never crossed gives up.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rho: float = Field(default=0.2, ge=0, lt=1)
    b_start: float = Field(default=25.0, gt=0)
    s_step: float = Field(default=1.1, gt=1)
    max_steps: int = Field(default=500, ge=1)

    def start(self, *, forget_count: int, train_count: int, victim_forget_accuracy: float) -> PTNState:
        """The state before the first evaluation.

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
        """The state after ``state.percentile`` was evaluated and gave ``forget_accuracy`` (in [0, 1])."""
        if state.status != "searching":
            raise ValueError(f"this search is over ({state.status}); there is nothing to update")
        if not 0 <= forget_accuracy <= 1:
            raise ValueError(f"forget accuracy {forget_accuracy} is not a share in [0, 1]")
        step = PTNStep(
            s=state.s,
            percentile=state.percentile,
            forget_accuracy=forget_accuracy,
            crossed=forget_accuracy <= state.threshold + ROUNDING,
        )
        first = not state.trace
        state = replace(
            state, trace=(*state.trace, step), walked_back=state.walked_back or (first and step.crossed)
        )
        return self._walk_back(state, step) if state.walked_back else self._go_on(state, step)

    def _go_on(self, state: PTNState, step: PTNStep) -> PTNState:
        if step.crossed:
            return replace(state, status="stopped")
        if len(state.trace) >= self.max_steps or step.percentile <= 0.0:
            return replace(state, status="no_stop")
        return replace(state, s=state.s * self.s_step)

    def _walk_back(self, state: PTNState, step: PTNStep) -> PTNState:
        """Lower s while it crosses; at p = 100 nothing gentler exists."""
        at_the_end = len(state.trace) >= self.max_steps or step.percentile >= 100.0
        if step.crossed and not at_the_end:
            return replace(state, s=state.s / self.s_step)
        least = min(step.s for step in state.trace if step.crossed)
        return replace(state, s=least, status="stopped")
