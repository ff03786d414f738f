"""What a trained candidate is worth: to somebody who sees S_f and retain, or to an oracle.

Each objective has two parts, how far the poison is forgotten and what else changed; a search maximises their
sum, or looks for the Pareto front of both. Candidates are rows of scalars, as workers send them.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...rows import Row
from .settings import TuneSettings

Parts = tuple[float, float]

SELECTION_CLEAN, SELECTION_HEALED = "selection_clean_accuracy", "selection_healed_raw"
"""Columns of a candidate on the test images that are set aside for oracles."""


def parts(settings: TuneSettings, row: Row, forget_accuracy_before: float) -> Parts | None:
    """Return both parts of the objective, greater is better; None for a candidate that failed.

    "deployable": minus the distance of Acc_forget from rho * Acc_forget(victim), and minus the share of
    retain samples, not of a target class, on which the candidate contradicts the victim. "oracle":
    healed_raw and clean accuracy on the images set aside.
    """
    if row["status"] == "failed":
        return None
    if settings.uses_oracle:
        return float(row[SELECTION_HEALED]), float(row[SELECTION_CLEAN])
    aim = settings.rho * forget_accuracy_before
    return -abs(row["forget_accuracy"] - aim), row["agreement"] - 1.0


def score(both: Parts | None) -> float | None:
    """Add up the parts; None for a candidate that failed."""
    return None if both is None else both[0] + both[1]


def told(settings: TuneSettings, both: Parts | None) -> Sequence[float] | None:
    """Return what the sampler learns of a candidate."""
    if both is None:
        return None
    return both if settings.pareto else (both[0] + both[1],)


def pareto_front(points: Sequence[Parts | None]) -> list[bool]:
    """Tell which points no other is at least as good as in both parts and better in one; failures never.

    Equal points are on the front together.
    """
    return [point is not None and not any(_dominates(other, point) for other in points) for point in points]


def _dominates(one: Parts | None, other: Parts) -> bool:
    return one is not None and one != other and one[0] >= other[0] and one[1] >= other[1]
