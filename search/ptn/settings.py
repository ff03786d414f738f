"""What can be chosen about a PTN search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ..own_settings import ConstantFields
from .machine import PTNSearch, Strategy


class PTNFields(ConstantFields):
    """The settings of a PTN search.

    Attributes:
        rho: (ptn) stop at this share of the victim's forget accuracy, in [0, 1); "auto" derives it from how
            often the victim predicts the target class on retain, which tasks of few classes need.
        b_start: (ptn) the search starts at s = (|S_f| / |S_tr|) / b_start, above 0.
        s_step: (ptn) factor on s from step to step, above 1; smaller is finer and slower.
        max_steps: (ptn) steps of s_step after which a search that never crossed gives up.
        strategy: (ptn) "plain" evaluates every step; "coarse_fine" every eighth until one crosses, and then
            those in between, which is faster and gives the same where the forget accuracy only falls.
        piece: (ptn) look at S_f in pieces of this many samples, and no further than a step needs to know on
            which side of the threshold it is; 8 is fast. The stop is the same, but the forget accuracies of
            the other steps are not known then. "whole": each step in full.
    """

    rho: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = 0.2
    b_start: float = Field(default=25.0, gt=0)
    s_step: float = Field(default=1.1, gt=1)
    max_steps: int = Field(default=500, ge=1, le=2**31)
    strategy: Strategy = "plain"
    piece: Annotated[int, Field(ge=1, le=2**31)] | Literal["whole"] = "whole"

    def ptn(self, rho: float) -> PTNSearch:
        """Make the PTN search that these settings ask for, with rho as a number."""
        return PTNSearch(
            rho=rho,
            b_start=self.b_start,
            s_step=self.s_step,
            max_steps=self.max_steps,
            strategy=self.strategy,
        )
