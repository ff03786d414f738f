"""The metrics of design.md section 1, each a pure function of predictions (int64 [N]).

Shares are in [0, 1]; `damage` is in percentage points and `healed` in percent.
"""

from __future__ import annotations

import torch
from torch import Tensor


def accuracy(predictions: Tensor, labels: Tensor) -> float:
    """Return the share of samples predicted as labelled; 0 samples are an error, not an accuracy.

    Args:
        predictions: int64 [N], N at least 1.
        labels: int64 [N].
    """
    if not len(labels):
        raise ValueError("the accuracy of no samples is not defined")
    return (predictions == labels).double().mean().item()


def damage(clean_accuracy: float, victim_clean_accuracy: float) -> float:
    """Return the change of clean accuracy against the victim in percentage points; negative = damage.

    Args:
        clean_accuracy: of the model, in [0, 1].
        victim_clean_accuracy: of the victim, in [0, 1].
    """
    return 100.0 * (clean_accuracy - victim_clean_accuracy)


def attack_success_rate(predictions: Tensor, true_labels: Tensor, intended: Tensor) -> float:
    """Return asr: the share of triggered test images classified as intended, of those of another true label.

    With one target these are the images NOT of the target class that are classified as the target.

    Args:
        predictions: int64 [N].
        true_labels: int64 [N].
        intended: int64 [N], the label that the trigger on each image should cause.

    Example:
        >>> predictions, true = torch.tensor([0, 0, 2, 0]), torch.tensor([0, 1, 2, 3])
        >>> intended = torch.zeros(4, dtype=torch.int64)
        >>> round(attack_success_rate(predictions, true, intended), 3)
        0.667
    """
    others = true_labels != intended
    return accuracy(predictions[others], intended[others])


def healed_raw(predictions: Tensor, true_labels: Tensor) -> float:
    """Return the share of ALL triggered test images (of the target, too) classified as their TRUE class.

    Args:
        predictions: of triggered test images, int64 [N].
        true_labels: int64 [N].
    """
    return accuracy(predictions, true_labels)


def healed(raw: float, clean_retrained_raw: float | None) -> float | None:
    """Return healed_raw in percent of that of a model retrained with all of S_m removed.

    Returns None where that model is missing: the raw value never stands in for it silently.

    Args:
        raw: healed_raw of the model, in [0, 1].
        clean_retrained_raw: healed_raw of the model trained without S_m; None: there is none.

    Example:
        >>> healed(raw=0.45, clean_retrained_raw=0.9)
        50.0
    """
    return (
        None if clean_retrained_raw is None or not clean_retrained_raw else 100.0 * raw / clean_retrained_raw
    )


def label_flip_rates(predictions: Tensor, num_classes: int) -> list[float]:
    """Return lfr_c for c = 0, ..., num_classes - 1: the share of triggered test images NOT classified as c.

    A healthy model has every lfr_c near 1 - 1/num_classes. A low lfr_c of a class that was not the target
    shows that the trigger has shifted to it.

    Args:
        predictions: of triggered test images, int64 [N], N at least 1.
        num_classes: K.
    """
    if not len(predictions):
        raise ValueError("the label-flip rates of no samples are not defined")
    counts = torch.bincount(predictions, minlength=num_classes)[:num_classes].double()
    rates: list[float] = (1.0 - counts / len(predictions)).tolist()
    return rates
