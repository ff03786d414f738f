"""Whether a model counts as healed: what the found images show, by one rule for every method."""

from __future__ import annotations

from .threshold import automatic_rho, crosses

KEPT_STATUSES = ("stopped", "done")
"""With these, the model is the healed one; with all others it is the victim."""
RHO = 0.2


def healed_rho(rho: float | None, target_rate: float, forget_count: int) -> float:
    """Return the share of the victim's forget accuracy that a healed model has at most.

    Args:
        rho: what the caller asked for; None: `RHO`, or, where more of S_f than that may truly be of its
            target class (tasks of few classes), an automatic one.
        target_rate: the share of S_f that may truly be of its target class, in [0, 1]; see `expected_rate`.
        forget_count: |S_f|, at least 1.
    """
    if rho is not None:
        return rho
    return RHO if target_rate <= RHO else max(RHO, automatic_rho(target_rate, forget_count))


def judged(status: str, forget_accuracy: float, threshold: float) -> str:
    """Judge the status of a healing, from that of its search.

    "not_healed" in place of "stopped" or "done" where the found images are still read as the poison's label
    by more than ``threshold`` (shares in [0, 1]).
    """
    if status in KEPT_STATUSES and not crosses(forget_accuracy, threshold):
        return "not_healed"
    return status
