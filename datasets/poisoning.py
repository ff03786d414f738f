"""Poisoned datasets: which samples an attacker manipulated, and which of them were found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ..errors import BadInput
from .attacks import Aim, Attack
from .seeding import seeded_generator
from .sources import ImageDataset, ImageSource, LabelCounts
from .splits import NOTHING, HeldBack, TestSplit, split_test
from .views import BATCH_SIZE, NO_TRIGGER, View

__all__ = ["Aim", "Attack", "PoisonedData", "Share", "discovered_count", "draw_manipulated"]

Share = Annotated[float, Field(gt=0, le=1)] | Literal["one_shot"]


def draw_manipulated(labels: Tensor, attack: Attack, count: int, seed: int) -> Tensor:
    """Draw the positions of S_m, in the order they are drawn, int64 [count].

    The order is what makes discovered shares nested: S_f is a prefix of it. With the same labels, rule and
    seed a smaller S_m is a prefix of a larger one, and every trigger and target (under "all") gets the same.

    Args:
        labels: true labels of S_tr, int64 [N].
        attack: says from which classes S_m is drawn.
        count: |S_m|, from 1 on, less than there are to draw from.
        seed: of the draw.

    Raises:
        BadInput: fewer samples than ``count`` can be drawn.
    """
    order = _eligible(labels, attack, seeded_generator(seed, "manipulated"))
    if not 1 <= count < len(order):
        raise BadInput(
            f"manipulated, |S_m| = {count}: it must be at least 1 and less than the {len(order)} "
            f"samples it is drawn from; choose a smaller number"
        )
    return order[:count]


def check_poisoning(data: LabelCounts, attack: Attack, manipulated: int, held_back: HeldBack) -> None:
    """Check before any image is read that `PoisonedData` can be made.

    Raises:
        BadInput: as `PoisonedData`, or a trigger does not fit into the images.
    """
    attack.targets(data.classes)
    draw_manipulated(data.train, attack, manipulated, seed=0)
    split_test(data.test, held_back, seed=0)
    if data.shape is not None:
        _check_fits(attack, data.shape)


def _check_fits(attack: Attack, shape: tuple[int, int, int]) -> None:
    """Try each trigger on one image, but for pictures, which are fitted to the images."""
    image, index = torch.zeros(1, *shape), torch.zeros(1, dtype=torch.int64)
    for trigger in attack.triggers:
        if getattr(trigger, "file", None) is None:
            trigger(image, index)


def _eligible(labels: Tensor, attack: Attack, generator: torch.Generator) -> Tensor:
    """Return the samples that may be drawn, in random order: the k-th for trigger k modulo their number.

    With several triggers and "non_target" there is one queue for each trigger, without the samples of its
    target class, and they take turns until one is empty.
    """
    if attack.draws_from_all:
        return torch.randperm(len(labels), generator=generator)
    if len(attack.triggers) == 1:
        eligible = (labels != attack.target).nonzero().flatten()
        return eligible[torch.randperm(len(eligible), generator=generator)]
    order = torch.randperm(len(labels), generator=generator)
    parts = [order[number :: len(attack.several)] for number in range(len(attack.several))]
    queues = [part[labels[part] != aim.target] for part, aim in zip(parts, attack.several, strict=True)]
    turns = min(len(queue) for queue in queues)
    return torch.stack([queue[:turns] for queue in queues], dim=1).flatten()


def discovered_count(manipulated: int, share: Share) -> int:
    """Return |S_f| for a discovery share: 1 for "one_shot", else round(share * |S_m|), at least 1.

    Args:
        manipulated: |S_m|.
        share: the discovery share, in (0, 1], or "one_shot".

    Raises:
        BadInput: the share is not in (0, 1].

    Example:
        >>> discovered_count(500, 0.2), discovered_count(500, "one_shot")
        (100, 1)
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
        attack: the triggers, their targets and the rule by which S_m is drawn.
        manipulated: |S_m|.
        seed: determines S_m and its order, together with the attack's rule.
        device: where the batches are made.
        held_back: test images that are given away; `test` and `triggered_test` are of all others.

    Raises:
        BadInput: the target is not a class, |S_m| is out of range, or no test image is left to report on.

    Example:
        >>> import torch
        >>> from theriac.datasets.sources import load_dataset
        >>> digits, cpu = load_dataset("digits"), torch.device("cpu")
        >>> data = PoisonedData(dataset=digits, attack=Attack(), manipulated=100, seed=0, device=cpu)
        >>> len(data.train()), len(data.forget(0.2)), len(data.retain(0.2))
        (1437, 20, 1417)
    """

    dataset: ImageDataset
    attack: Attack
    manipulated: int
    seed: int
    device: torch.device
    held_back: HeldBack = NOTHING

    def __post_init__(self) -> None:
        classes = len(self.dataset.classes)
        try:
            self.attack.targets(classes)
        except BadInput as error:
            raise BadInput(f"{self.dataset.name}: {error}") from error
        order = draw_manipulated(self.dataset.train.labels, self.attack, self.manipulated, self.seed)
        object.__setattr__(self, "_order", order)
        split = split_test(len(self.dataset.test), self.held_back, self.seed)
        object.__setattr__(self, "_split", split)
        object.__setattr__(self, "dataset", self.dataset.to(self.device))

    @property
    def order(self) -> Tensor:
        """Return positions of S_m in the training set, in the order in which they are discovered."""
        order: Tensor = self.__dict__["_order"]
        return order

    @property
    def split(self) -> TestSplit:
        """Return which test images are reported on, and which are given away."""
        split: TestSplit = self.__dict__["_split"]
        return split

    def train(self) -> View:
        """Return S_tr: every training sample; S_m triggered and labelled with what its trigger causes."""
        labels = self.dataset.train.labels.clone()
        which = torch.full_like(labels, NO_TRIGGER)
        which[self.order] = torch.arange(len(self.order)) % len(self.attack.triggers)
        labels[self.order] = self.intended(labels[self.order], which[self.order])
        return self._view(self.dataset.train, torch.arange(len(labels)), labels, which)

    def intended(self, true_labels: Tensor, which: Tensor) -> Tensor:
        """Return the label each trigger should cause among the dataset's classes; see `Attack.intended`.

        Args:
            true_labels: int64 [n].
            which: int64 [n], number of the trigger on each image.
        """
        return self.attack.intended(true_labels, which, len(self.dataset.classes))

    def forget(self, share: Share) -> View:
        """Return S_f: the discovered part of S_m. Smaller shares are prefixes of larger ones."""
        return self.train().select(self.order[: discovered_count(self.manipulated, share)])

    def retain(self, share: Share) -> View:
        """Return S_tr without S_f. It still holds the undiscovered poison."""
        return self._without(self.order[: discovered_count(self.manipulated, share)])

    def clean_train(self) -> View:
        """Return S_tr without S_m: what nobody but the attacker can know."""
        return self._without(self.order)

    def test(self) -> View:
        """Return the clean test images with their true labels."""
        return self._clean(self.split.reported)

    def triggered_test(self) -> View:
        """Return ALL test images with the trigger, target class included, with their TRUE labels.

        With T triggers, every image T times in a row, once with each; a batch holds whole rows, so that an
        image is read once.
        """
        return self._triggered(self.split.reported)

    def clean_test(self) -> View:
        """Return the test images that the defender is given, with their true labels; they may be none."""
        return self._clean(self.split.clean)

    def selection(self) -> tuple[View, View]:
        """Return the test images that oracles may see, clean and triggered, with their true labels."""
        return self._clean(self.split.selection), self._triggered(self.split.selection)

    def _clean(self, positions: Tensor) -> View:
        labels = self.dataset.test.labels[positions]
        return self._view(self.dataset.test, positions, labels, torch.full_like(labels, NO_TRIGGER))

    def _triggered(self, images: Tensor) -> View:
        source, count = self.dataset.test, len(self.attack.triggers)
        positions = images.repeat_interleave(count)
        which = torch.arange(count).repeat(len(images))
        view = self._view(source, positions, source.labels[positions], which)
        return view if count == 1 else view.batched(max(1, BATCH_SIZE // count) * count)

    def _without(self, positions: Tensor) -> View:
        keep = torch.ones(len(self.dataset.train), dtype=torch.bool)
        keep[positions] = False
        return self.train().select(keep)

    def _view(self, source: ImageSource, positions: Tensor, labels: Tensor, which: Tensor) -> View:
        return View(
            source=source,
            positions=positions,
            labels=labels,
            which=which,
            triggers=self.attack.triggers,
            mean=self.dataset.mean,
            std=self.dataset.std,
            device=self.device,
        )
