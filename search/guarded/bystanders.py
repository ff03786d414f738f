"""What the samples that a guarded search watches say of a dampened model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...unlearning.inference import Batch, logits_and_labels, predict
from ...unlearning.precision import Arithmetic
from ..given import Batches, random_part

STEPS = ((-1, 0), (0, 1), (1, 0), (0, -1), (-1, -1), (-1, 1), (1, 1), (1, -1))
NUDGE = 1 / 32
"""How far images are nudged, in parts of their shorter side."""
SHARPNESS = 2.0
"""Of predictions that count by how sure they are: 1 is the softmax itself, infinity counts right or wrong."""
SHARES, ENDURED = (1.0, 0.5, 0.25, 0.125), 0.9
"""Shares of the moved image, and how many of its right answers the victim must keep."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """The samples that a guarded search looks at, as batches that stay in memory.

    Attributes:
        suspected: found poison and what responds like it: a step should change its predictions.
        target, other: nudged retain samples that a step should not make the model mistake.
        target_rate: how often the first sort occurs among both.
        found: samples of S_f that suspicion was computed from; doubted: those of them not believed to be
            poison.
        suspects: retain samples that are suspected, of ``looked_at`` that the victim believes to be targets.
        separation, apart: see `Suspicion`.
    """

    suspected: list[Batch]
    target: list[Batch]
    other: list[Batch]
    target_rate: float
    found: int
    doubted: int
    suspects: int
    looked_at: int
    separation: float
    apart: bool

    @property
    def suspected_rate(self) -> float:
        """Return how often suspects occur in retain, in [0, 1]."""
        return self.target_rate * self.suspects / max(1, self.looked_at)


class Change(NamedTuple):
    """A model against the victim, on the same samples.

    Attributes:
        flips: share of those that the victim gets right which the model gets wrong; 0 of none.
        lost: how much less it believes the labels, see `belief`; 0 of no samples.
    """

    flips: float
    lost: float


class Bystanders:
    """Samples that a step should leave alone, and what the victim says of them.

    Args:
        victim: in the state that later ones are compared with.
        batches: of them.
        arithmetic: of all passes.
    """

    def __init__(self, victim: nn.Module, batches: list[Batch], arithmetic: Arithmetic) -> None:
        self._batches, self._arithmetic = batches, arithmetic
        self._right, self._beliefs = self._says(victim)

    def change(self, model: nn.Module) -> Change:
        """Measure the change that ``model`` makes to the bystanders."""
        if not len(self._right):
            return Change(0.0, 0.0)
        after, beliefs = self._says(model)
        believed = after[self._right]
        flips = 1.0 - float(believed.double().mean()) if len(believed) else 0.0
        return Change(flips, float((self._beliefs - beliefs).mean()))

    def _says(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """Tell which samples the model predicts as labelled, and its belief in their labels."""
        with self._arithmetic.autocast(next(model.parameters()).device):
            logits, labels = logits_and_labels(model, self._batches, "probe")
        if not len(labels):
            return torch.zeros(0, dtype=torch.bool), torch.zeros(0)
        return logits.argmax(1) == labels, belief(logits, labels)


def belief(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how sure predictions are of the labels, float64 [N], in [0, 1].

    The softmax of `SHARPNESS` times the logits, at the label. Its mean changes as accuracy does; on CIFAR-10
    victims with a third to seven tenths of the standard deviation.

    Args:
        logits: [N, K].
        labels: int64 [N].
    """
    return (SHARPNESS * logits.double()).softmax(1).gather(1, labels[:, None])[:, 0]


def right(model: nn.Module, batches: list[Batch], arithmetic: Arithmetic) -> Tensor:
    """Tell which samples the model predicts as labelled, bool [N]."""
    device = next(model.parameters()).device
    with arithmetic.autocast(device):
        predictions, labels = predict(model, batches, "probe")
    return predictions == labels


def kept(samples: Batches | None, count: int, arithmetic: Arithmetic) -> list[Batch]:
    """Keep up to ``count`` of the samples, drawn at random, in memory, as passes take them fastest."""
    return [] if samples is None else list(ordered(random_part(samples, count), arithmetic))


def ordered(batches: Iterable[Batch], arithmetic: Arithmetic) -> Iterator[Batch]:
    """Yield the batches; images are in the channels-last order where passes are reduced."""
    for x, y in batches:
        images = arithmetic.reduced and x.ndim == 4
        yield (x.contiguous(memory_format=torch.channels_last) if images else x), y


def nudged(victim: nn.Module, batches: list[Batch], arithmetic: Arithmetic) -> list[Batch]:
    """Mix images [N, C, H, W] with themselves, moved to the eight sides in turn.

    A model that fits its training samples perfectly has large margins on them, and loses less there than on
    images that it has not seen. These it has not quite seen. They are moved by one pixel in 32, where what
    enters repeats the edge; half, a quarter or an eighth of the moved image is mixed in where the victim
    would otherwise get more than one in ten wrong that it gets right, and none where it still does. Inputs of
    other shapes are left as they are.
    """
    before = right(victim, batches, arithmetic).sum()
    for share in SHARES:
        moved = [(_moved(x, share) if x.ndim == 4 and x.is_floating_point() else x, y) for x, y in batches]
        if right(victim, moved, arithmetic).sum() >= ENDURED * before:
            return moved
    return batches


def _moved(x: Tensor, share: float) -> Tensor:
    height, width = x.shape[-2:]
    far = max(1, round(min(height, width) * NUDGE))
    padded, moved = F.pad(x, (far,) * 4, mode="replicate"), x.clone()
    for number, (down, across) in enumerate(STEPS):
        top, left = far + far * down, far + far * across
        moved[number :: len(STEPS)] = padded[number :: len(STEPS), :, top : top + height, left : left + width]
    return x.lerp(moved, share)
