"""Signs that labels count the classes in another order than the model does.

A class whose samples the model assigns to ONE other class, whose own samples it does not assign there, is
numbered differently. A class that is merely mistaken for another (a weak or a damaged model) goes where that
other one stays; several that go to one place are a sink, not an order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor

MOST = 0.5
"""The least share of a class that goes to its new number."""
LEFT = 0.2
"""At most this multiple of it may stay, and of the class that has that number by its labels."""
FEWEST = 3
ENOUGH = 20
"""Samples of classes that moved, from which on there is no doubt."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A class that the model numbers differently.

    Attributes:
        label: its number in the labels.
        prediction: its number in the model.
        hits: how many of its samples are predicted so.
        stayed: how many are predicted as labelled.
        count: its samples.
    """

    label: int
    prediction: int
    hits: int
    stayed: int
    count: int


@dataclass(frozen=True, kw_only=True)
class Relabelling:
    """The classes that moved.

    Attributes:
        moved: in the order of their labels.
        classes: how many classes occur in the labels.
        agreement: share of all samples predicted as labelled.
        explained: that share if the classes that moved had the model's numbers.
    """

    moved: tuple[Moved, ...]
    classes: int
    agreement: float
    explained: float

    @property
    def certain(self) -> bool:
        """Tell whether several classes have moved, and enough samples: one alone may be a damaged model's."""
        samples = sum(one.hits for one in self.moved)
        return len(self.moved) >= max(2, self.classes / 100) and samples >= ENOUGH

    def shown(self) -> str:
        """Name the classes that moved, three at most, in words."""
        first = ", ".join(
            f"{one.hits} of {one.count} labelled {one.label} are class {one.prediction} to the model"
            for one in self.moved[:3]
        )
        rest = len(self.moved) - 3
        return first + (f", and so on for {rest} more" if rest > 0 else "")


def relabelling(predictions: Tensor, labels: Tensor) -> Relabelling:
    """Find the classes that moved, from predictions and labels, both int64 [N], one sample at least."""
    counts = _counts(predictions, labels)
    goes = {label: _goes(label, found) for label, found in counts.items()}
    wanted = Counter(one.prediction for one in goes.values() if one)
    moved = tuple(
        one
        for one in goes.values()
        if one and wanted[one.prediction] == 1 and not _is_at_home(counts.get(one.prediction), one.prediction)
    )
    agreed = int((predictions == labels).sum())
    gained = sum(one.hits - one.stayed for one in moved)
    return Relabelling(
        moved=moved,
        classes=len(counts),
        agreement=agreed / len(labels),
        explained=(agreed + gained) / len(labels),
    )


def _counts(predictions: Tensor, labels: Tensor) -> dict[int, Tensor]:
    """Count by label how often its samples are predicted as each class."""
    order = labels.argsort(stable=True)
    found, sizes = labels[order].unique_consecutive(return_counts=True)
    parts = predictions[order].split(sizes.tolist())
    return {int(label): torch.bincount(part) for label, part in zip(found, parts, strict=True)}


def _goes(label: int, found: Tensor) -> Moved | None:
    """Tell where most samples of a label go, if they hardly stay."""
    count, stayed = int(found.sum()), _at(found, label)
    prediction = int(found.argmax())
    hits = _at(found, prediction)
    if prediction == label or hits < max(FEWEST, MOST * count) or stayed > LEFT * hits:
        return None
    return Moved(label=label, prediction=prediction, hits=hits, stayed=stayed, count=count)


def _is_at_home(found: Tensor | None, label: int) -> bool:
    """Tell whether the samples of a label, if there are any, stay to a part that counts."""
    return found is not None and _at(found, label) > LEFT * int(found.sum())


def _at(found: Tensor, label: int) -> int:
    return int(found[label]) if label < len(found) else 0
