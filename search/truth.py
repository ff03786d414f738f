"""Scores against held-out truth. Searches never see them; rows and figures do."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ..datasets.poisoning import PoisonedData
from ..unlearning.inference import predict
from ..unlearning.metrics import accuracy, attack_success_rate, healed_raw, label_flip_rates


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A model on the clean and on the triggered test images; see `unlearning.metrics`."""

    clean_accuracy: float
    asr: float
    healed_raw: float
    lfr: list[float]


def measure_truth(model: nn.Module, data: PoisonedData) -> Truth:
    """Score ``model`` on all test images of ``data``, clean and triggered."""
    clean, labels = predict(model, data.test(), "test images")
    triggered, true_labels = predict(model, data.triggered_test(), "triggered test images")
    return Truth(
        clean_accuracy=accuracy(clean, labels),
        asr=attack_success_rate(triggered, true_labels, data.attack.target),
        healed_raw=healed_raw(triggered, true_labels),
        lfr=label_flip_rates(triggered, len(data.dataset.classes)),
    )
