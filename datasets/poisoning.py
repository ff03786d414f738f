"""Poisoned datasets: which samples an attacker manipulated, and which of them were found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..errors import BadInput
from .images import ImageSource
from .sources import ImageDataset
from .triggers import AnyTrigger, BadNets
from .views import View, seeded_generator

Share = Annotated[float, Field(gt=0, le=1)] | Literal["one_shot"]


class Attack(BaseModel):
    """What the attacker does to the samples it manipulates.

    Attributes:
        trigger: what is added to an image.
        target: the label that a triggered image should cause.
        drawn_from: S_m is drawn over "all" classes (Goel's BadNets; a tenth of S_m then truly is of the
            target class) or from "non_target" classes only (I-BAU).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    trigger: AnyTrigger = Field(default_factory=BadNets)
    target: int = Field(default=0, ge=0)
    drawn_from: Literal["all", "non_target"] = "all"


def draw_manipulated(labels: Tensor, attack: Attack, count: int, seed: int) -> Tensor:
    """Positions of S_m in the order they are drawn, int64 [count].

    The order is what makes discovered shares nested: S_f is a prefix of it. With the same labels, rule and
    seed a smaller S_m is a prefix of a larger one, and every trigger and target (under "all") gets the same.

    Raises:
        BadInput: fewer samples than ``count`` can be drawn.
    """
    eligible = torch.arange(len(labels))
    if attack.drawn_from == "non_target":
        eligible = eligible[labels != attack.target]
    if not 1 <= count < len(eligible):
        raise BadInput(
            f"|S_m| = {count}: it must be at least 1 and less than the {len(eligible)} samples it is drawn "
            f"from; choose a smaller number"
        )
    order = torch.randperm(len(eligible), generator=seeded_generator(seed, "manipulated"))
    return eligible[order[:count]]


def discovered_count(manipulated: int, share: Share) -> int:
    """|S_f| for a discovery share: 1 for "one_shot", else round(share * |S_m|), at least 1.

    Raises:
        BadInput: the share is not in (0, 1].
    """
    if share == "one_shot":
        return 1
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= 1:
        raise BadInput(f'discovery share {share!r}: give a number in (0, 1], or "one_shot"')
    return max(1, round(share * manipulated))


@dataclass(frozen=True, kw_only=True, eq=False)
class PoisonedData:
    """A dataset after the attack, and every view of it that training, unlearning and scoring need.

    Args:
        dataset: the clean dataset; pixels that sit decoded in memory are moved to ``device``.
        attack: the trigger, its target and the rule by which S_m is drawn.
        manipulated: |S_m|.
        seed: determines S_m and its order, together with the attack's rule.
        device: where the batches are made.

    Raises:
        BadInput: the target is not a class, or |S_m| is out of range.
    """

    dataset: ImageDataset
    attack: Attack
    manipulated: int
    seed: int
    device: torch.device

    def __post_init__(self) -> None:
        classes = len(self.dataset.classes)
        if self.attack.target >= classes:
            raise BadInput(
                f"target class {self.attack.target}: {self.dataset.name} has classes 0 to {classes - 1}; "
                f"choose one of them"
            )
        order = draw_manipulated(self.dataset.train.labels, self.attack, self.manipulated, self.seed)
        object.__setattr__(self, "_order", order)
        object.__setattr__(self, "dataset", self.dataset.to(self.device))

    @property
    def order(self) -> Tensor:
        """Positions of S_m in the training set, in the order in which they are discovered."""
        order: Tensor = self.__dict__["_order"]
        return order

    def train(self) -> View:
        """S_tr: every training sample, S_m triggered and labelled with the target."""
        labels = self.dataset.train.labels.clone()
        labels[self.order] = self.attack.target
        triggered = torch.zeros(len(labels), dtype=torch.bool)
        triggered[self.order] = True
        return self._view(self.dataset.train, labels, triggered)

    def forget(self, share: Share) -> View:
        """S_f: the discovered part of S_m. Smaller shares are prefixes of larger ones."""
        return self.train().select(self.order[: discovered_count(self.manipulated, share)])

    def retain(self, share: Share) -> View:
        """S_tr without S_f. It still holds the undiscovered poison."""
        return self._without(self.order[: discovered_count(self.manipulated, share)])

    def clean_train(self) -> View:
        """S_tr without S_m: what nobody but the attacker can know."""
        return self._without(self.order)

    def test(self) -> View:
        """The clean test images with their true labels."""
        labels = self.dataset.test.labels
        return self._view(self.dataset.test, labels, torch.zeros(len(labels), dtype=torch.bool))

    def triggered_test(self) -> View:
        """ALL test images with the trigger, target class included, with their TRUE labels."""
        labels = self.dataset.test.labels
        return self._view(self.dataset.test, labels, torch.ones(len(labels), dtype=torch.bool))

    def _without(self, positions: Tensor) -> View:
        keep = torch.ones(len(self.dataset.train), dtype=torch.bool)
        keep[positions] = False
        return self.train().select(keep)

    def _view(self, source: ImageSource, labels: Tensor, triggered: Tensor) -> View:
        return View(
            source=source,
            positions=torch.arange(len(source)),
            labels=labels,
            triggered=triggered,
            trigger=self.attack.trigger,
            mean=self.dataset.mean,
            std=self.dataset.std,
            device=self.device,
        )
