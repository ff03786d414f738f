"""What cells of one victim share: its dampening problems, and its predictions of what cells compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ...unlearning.dampening import bytes_of
from ...unlearning.inference import predict
from ..dampening_problem import DampeningProblem
from ..given import Batches
from ..searches import SEARCH_ENTRIES
from ..settings import HealSettings


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A dampening problem of a victim.

    Attributes:
        problem: what a search works on.
        seconds: that its importances took.
    """

    problem: DampeningProblem
    seconds: float

    @property
    def held_bytes(self) -> int:
        """Count the bytes held."""
        return self.problem.held_bytes


def problem_sort(settings: HealSettings) -> tuple[Any, ...]:
    """Return what of the settings a dampening problem depends on."""
    own = SEARCH_ENTRIES[settings.search].depends_on
    return (
        *(getattr(settings, name) for name in own),
        settings.kind,
        settings.granularity,
        settings.precision,
        settings.batch_size,
        settings.piece,
        settings.dampening_constant,
    )


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The victim on samples of the training set.

    Attributes:
        predictions, labels: int64 [N].
    """

    predictions: Tensor
    labels: Tensor

    @classmethod
    def of(cls, victim: nn.Module, samples: Batches) -> Compared:
        """Predict samples of the training set now."""
        predictions, labels = predict(victim, samples, "training set")
        return cls(predictions=predictions, labels=labels)

    def at(self, positions: Tensor) -> Compared:
        """Return the predictions at positions of the set, int64 on any device."""
        predictions, labels = (one[positions.to(one.device)] for one in (self.predictions, self.labels))
        return Compared(predictions=predictions, labels=labels)

    @property
    def held_bytes(self) -> int:
        """Count the bytes held."""
        return bytes_of((self.predictions, self.labels))
