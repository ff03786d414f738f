"""When the found poison counts as forgotten: at a forget accuracy of at most rho times the victim's."""

from __future__ import annotations

import math

from ..errors import BadInput

# 0.2 * 0.35 is a little below 0.07 in floating point, and 7 of 100 must still count as reaching it
ROUNDING = 1e-12


class NothingToUnlearn(BadInput):
    """The victim predicts none of the forget samples as labelled, so no accuracy can be brought down."""


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


def crosses(forget_accuracy: float, threshold: float) -> bool:
    """Tell whether a forget accuracy is at most the threshold, rounding aside."""
    return forget_accuracy <= threshold + ROUNDING


def automatic_rho(target_rate: float, forget_count: int) -> float:
    """Return a rho that can be reached without wrecking the model (ours).

    A share ``target_rate`` of S_f may truly be of its target class, and those samples should keep their
    label. They are counted in a sample of ``forget_count``, so two binomial standard deviations are added.

    Args:
        target_rate: how often the victim predicts the target class on retain, in [0, 1].
        forget_count: |S_f|, at least 1.

    Returns:
        rho in [0, 0.95].

    Example:
        >>> round(automatic_rho(target_rate=0.1, forget_count=100), 3)
        0.16
    """
    spread = math.sqrt(target_rate * (1.0 - target_rate) / forget_count)
    return min(0.95, target_rate + 2.0 * spread)
