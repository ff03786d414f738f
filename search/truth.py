"""Scores against held-out truth. Searches never see them; rows and figures do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor, nn

from ..datasets.poisoning import PoisonedData
from ..datasets.views import View
from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy, attack_success_rate, healed_raw, label_flip_rates


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A model on the clean and on the triggered test images; see `unlearning.metrics`.

    With several triggers every test image counts once with each; asr is the mean of ``asr_by_trigger``.
    """

    clean_accuracy: float
    asr: float
    healed_raw: float
    lfr: list[float]
    asr_by_trigger: list[float] = field(default_factory=list)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Truth:
        """Make the scores from a row that holds them among others."""
        return cls(**{one.name: row[one.name] for one in fields(cls)})


def measure_truth(model: nn.Module, data: PoisonedData) -> Truth:
    """Score ``model`` on all test images of ``data`` that are reported on, clean and triggered.

    Args:
        model: returns logits [N, K] for normalised images.
        data: the poisoned dataset with its test images.
    """
    return _measured(model, data.test(), data.triggered_test(), data)


def measure_selection(model: nn.Module, data: PoisonedData) -> Truth:
    """Score ``model`` on the test images that oracles may see; they are never reported on.

    Args:
        model: returns logits [N, K] for normalised images.
        data: the poisoned dataset; its ``held_back.selection`` images are looked at.
    """
    return _measured(model, *data.selection(), data)


def _measured(model: nn.Module, images: View, view: View, data: PoisonedData) -> Truth:
    clean, labels = predict(model, images, "test images")
    triggered, true_labels = predict(model, view, "triggered test images")
    rates = _asr_by_trigger(triggered, true_labels, view.which, data)
    return Truth(
        clean_accuracy=accuracy(clean, labels),
        asr=sum(rates) / len(rates),
        healed_raw=healed_raw(triggered, true_labels),
        lfr=label_flip_rates(triggered, len(data.dataset.classes)),
        asr_by_trigger=rates,
    )


def _asr_by_trigger(predictions: Tensor, labels: Tensor, which: Tensor, data: PoisonedData) -> list[float]:
    intended = data.intended(labels, which)
    numbers = [which == number for number in range(len(data.attack.triggers))]
    return [attack_success_rate(predictions[own], labels[own], intended[own]) for own in numbers]
