"""What dampening did to the retain set, as far as contaminated data can tell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..unlearning.metrics import accuracy

LEAST_AGREEMENT = 0.25
"""A model that agrees with the victim on fewer other samples is another model, whatever the labels say."""
LEAST_TARGET = 0.1
"""A model that keeps a smaller share of what the victim predicted as a label of S_f has lost that class:
hidden poison is not nine tenths of it."""
COUNTED = 10
"""Fewer predictions of a label say nothing about what is left of them."""
LEAST_KEPT = 0.5
"""So is one that agrees on fewer than this multiple of what the victim predicts as labelled."""


@dataclass(frozen=True, kw_only=True)
class Harm:
    """Victim against candidate on retain; shares in [0, 1]. Needs no held-out truth.

    Attributes:
        retain_accuracy_before, retain_accuracy: on all of retain, labels as given. Healing the undiscovered
            poison lowers it, for good reasons.
        other_accuracy_before, other_accuracy: on retain samples whose label does not occur in S_f (on all of
            retain if every label occurs there). Poison with the targets of S_f cannot lower it.
        agreement: share of those other samples predicted as the victim predicts them.
        target_rate_before, target_rate: share of retain predicted as a label of S_f.
        target_kept: of a label of S_f, how many predictions on retain are left beside the victim's; the least
            of those labels that the victim predicts at least `COUNTED` times, 1 where there is none. Healing
            hidden poison lowers it; forgetting the class brings it to 0.
        largest_gain: the most that one class's share of all predictions grew.
    """

    retain_accuracy_before: float
    retain_accuracy: float
    other_accuracy_before: float
    other_accuracy: float
    agreement: float
    target_rate_before: float
    target_rate: float
    target_kept: float
    largest_gain: float

    def collapsed(self, *, drop: float, share: float) -> bool:
        """Tell whether the model is wrecked; see `wrecks`."""
        return bool(self.wrecks(drop=drop, share=share))

    def wrecks(self, *, drop: float, share: float) -> list[str]:
        """Say in which ways the model is wrecked, one clause each; none where it is not.

        Other accuracy fell by more than ``drop``, one class gained more than ``share``, a label of S_f is
        hardly predicted any more, or the model has left the victim's predictions. The last does not look at
        labels: they may be wrong, and a model that learnt wrong ones looks better by them. A weak victim
        (40 % of many classes) that learns more of retain still agrees with what it knew.
        """
        fell = self.other_accuracy_before - self.other_accuracy
        least = max(LEAST_AGREEMENT, LEAST_KEPT * self.other_accuracy_before)
        clauses = {
            f"{100 * fell:.1f} points of accuracy on other classes are lost": fell > drop,
            f"one class gained {100 * self.largest_gain:.0f} % of all predictions": self.largest_gain > share,
            f"{100 * self.target_kept:.0f} % are left of what was predicted as the poison's label": (
                self.target_kept < LEAST_TARGET
            ),
            f"only {100 * self.agreement:.0f} % of other predictions are as before": self.agreement < least,
        }
        return [clause for clause, holds in clauses.items() if holds]


def target_rate(predictions: Tensor, targets: Tensor) -> float:
    """Return the share of ``predictions`` (int64 [N]) that are one of ``targets`` (int64 [K])."""
    return torch.isin(predictions, targets).double().mean().item()


def expected_rate(predictions: Tensor, forget_labels: Tensor) -> float:
    """Estimate the share of S_f that is truly of the class it is labelled as, in [0, 1].

    That is how often the victim predicts that class on retain: an attacker who picks samples at random picks
    those of the target class, too.

    Args:
        predictions: the victim's on retain, int64 [N].
        forget_labels: of S_f, as given, int64 [M].
    """
    labels, counts = forget_labels.unique(return_counts=True)
    rates = torch.tensor([target_rate(predictions, label) for label in labels], dtype=torch.float64)
    return float((rates * counts).sum() / counts.sum())


def compare_on_retain(before: Tensor, after: Tensor, labels: Tensor, targets: Tensor) -> Harm:
    """Compute `Harm` from predictions of the victim and of the candidate on retain.

    Args:
        before: the victim's predictions, int64 [N].
        after: the candidate's, int64 [N].
        labels: labels as given, int64 [N].
        targets: the labels that occur in S_f.
    """
    others = ~torch.isin(labels, targets)
    if not others.any():
        others = torch.ones_like(others)
    return Harm(
        retain_accuracy_before=accuracy(before, labels),
        retain_accuracy=accuracy(after, labels),
        other_accuracy_before=accuracy(before[others], labels[others]),
        other_accuracy=accuracy(after[others], labels[others]),
        agreement=accuracy(after[others], before[others]),
        target_rate_before=target_rate(before, targets),
        target_rate=target_rate(after, targets),
        target_kept=_target_kept(before, after, targets),
        largest_gain=_largest_gain(before, after),
    )


def _target_kept(before: Tensor, after: Tensor, targets: Tensor) -> float:
    pairs = [(int((before == target).sum()), int((after == target).sum())) for target in targets]
    return min((left / had for had, left in pairs if had >= COUNTED), default=1.0)


def _largest_gain(before: Tensor, after: Tensor) -> float:
    classes = int(torch.maximum(before.max(), after.max())) + 1
    gains = torch.bincount(after, minlength=classes) - torch.bincount(before, minlength=classes)
    return int(gains.max()) / len(before)
