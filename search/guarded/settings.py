"""What can be chosen about a guarded search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ...unlearning.kinds import Precision
from ..own_settings import ConstantFields
from .machine import GuardedSearch

MOST_FOUND = 500
"""Samples of S_f, at most, that suspicion and ranking are computed from."""
MOST_MEASURED = 100
"""Samples of S_f, and of what is suspected beside it, that a step is measured on, at most each."""


class GuardedFields(ConstantFields):
    """The settings of a guarded search.

    Attributes:
        harm_weight: (guarded) what a point of accuracy lost on retain costs, in points of suspected samples
            healed, above 0; larger heals less and damages less.
        most_harm: (guarded) the largest loss of accuracy on retain, suspected samples apart, in (0, 1]; if
            nothing heals without more, the status is "no_stop".
        probe_target: (guarded) samples of retain labelled as S_f is that are searched for hidden poison.
        probe_other: (guarded) samples of the other classes, and of the unsuspected ones of these, at most, on
            which harm is measured. They are kept in memory.
        probe_precision: (guarded) of the passes that look for hidden poison and measure steps: "same" as that
            of the importances, or one of those. "bfloat16" is several times as fast where there are matrix
            units; predictions differ in few samples.
    """

    harm_weight: float = Field(default=12.0, gt=0)
    most_harm: float = Field(default=0.06, gt=0, le=1)
    probe_target: int = Field(default=600, ge=1, le=2**31)
    probe_other: int = Field(default=300, ge=1, le=2**31)
    probe_precision: Literal["same", Precision] = "same"

    @property
    def precision_of_probes(self) -> Precision:
        """Return the precision of the passes of a guarded search."""
        return self.precision if self.probe_precision == "same" else self.probe_precision

    def guarded(self) -> GuardedSearch:
        """Make the guarded search that these settings ask for."""
        return GuardedSearch(harm_weight=self.harm_weight, most_harm=self.most_harm)
