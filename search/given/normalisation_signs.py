"""Signs that images were preprocessed otherwise than in training: read another way, the model knows them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...unlearning.inference import predict
from ...unlearning.metrics import accuracy
from .batches import Batches, random_part

Change = Callable[[Tensor], Tensor]
LOOKED_AT = 500
MOST_VALUES = 1 << 24
"""Values of the images that are looked at, at most (64 MiB)."""
FEWEST = 20
SURE = 3.0
"""Standard deviations by which another reading must win more samples than it loses."""
BRIGHT = "in [0, 255]"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Another way to read the images, and what it is worth.

    Attributes:
        text: what is done to them, after "if they were".
        agreement: share of the samples looked at that the model predicts as labelled then.
        before: as they are.
        telling: whether no damage to the model explains it, too. Brighter images do: they drown wrong biases.
    """

    text: str
    agreement: float
    before: float
    telling: bool = True

    @property
    def certain(self) -> bool:
        """Tell whether this reading alone makes a usable classifier.

        Ten points better and four of five errors gone; or twenty, and half of them, or three times as good.
        """
        if not self.telling:
            return False
        gained = self.agreement - self.before
        left = (1 - self.agreement) / max(1 - self.before, 1e-9)
        much = left <= 0.5 or self.agreement >= 3 * self.before
        return (gained >= 0.1 and left <= 0.2) or (gained >= 0.2 and much)


def better_reading(model: nn.Module, samples: Batches) -> Reading | None:
    """Find the reading under which model and labels agree best, if clearly better than as they are.

    Args:
        model: the victim.
        samples: (x, y) batches; up to `LOOKED_AT` are drawn and held. None is looked for where images are
            not float [N, C, ...] of one shape, or fewer than `FEWEST`.
    """
    held = _held(samples)
    if held is None:
        return None
    x, y = held
    before = _right(model, x, y)
    found = [(text, _right(model, change(x), y)) for text, change in _changes(x)]
    clear = [(text, right) for text, right in found if _wins(before, right)]
    if not clear:
        return None
    text, right = max(clear, key=lambda one: int(one[1].sum()))
    return Reading(text=text, agreement=_share(right), before=_share(before), telling=text != BRIGHT)


def _held(samples: Batches) -> tuple[Tensor, Tensor] | None:
    x, _ = next(iter(samples))
    if not x.is_floating_point() or x.ndim < 3:
        return None
    fits = max(FEWEST, MOST_VALUES // max(1, x[0].numel()))
    pairs = list(random_part(samples, min(LOOKED_AT, fits)))
    if len({x.shape[1:] for x, _ in pairs}) > 1 or sum(len(y) for _, y in pairs) < FEWEST:
        return None
    images, labels = zip(*pairs, strict=True)
    return torch.cat(images), torch.cat(labels)


def _right(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    pairs = zip(x.split(100), y.split(100), strict=True)
    predictions, labels = predict(model, pairs, "retain set")
    return predictions == labels


def _wins(before: Tensor, after: Tensor) -> bool:
    """Tell whether the later answers win, by a sign test and by five points at least."""
    won, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return won - lost >= max(SURE * math.sqrt(won + lost), 0.05 * len(before)) > 0


def _share(right: Tensor) -> float:
    return accuracy(right.long(), torch.ones_like(right, dtype=torch.int64))


def _changes(x: Tensor) -> Iterator[tuple[str, Change]]:
    """Yield what is commonly forgotten, or done twice."""
    mean, std = _moments(x)
    if bool((std > 0).all()):
        numbers = f"mean {_shown(mean)} and std {_shown(std)}"
        yield f"normalised with {numbers}, which are their own", _normalising(mean, std)
    yield "normalised with mean 0.5 and std 0.5", _normalising(*_constant(x, (0.5,), (0.5,)))
    if x.shape[1] == 3:
        text = f"normalised with mean {_shown(IMAGENET[0])} and std {_shown(IMAGENET[1])}"
        yield text, _normalising(*_constant(x, *IMAGENET))
        yield "given with their channels in reverse order (RGB, BGR)", lambda images: images.flip(1)
    least, most = _bounds(x)
    if bool((most > least).all()):
        yield "in [0, 1] (not normalised, or not twice)", _normalising(least, most - least)
        span = _normalising(least, (most - least) / 255)
        yield BRIGHT, span


def _normalising(mean: Tensor, std: Tensor) -> Change:
    return lambda images: (images - mean) / std


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation of every channel, shaped to be broadcast."""
    over = (0, *range(2, x.ndim))
    return x.mean(over, keepdim=True), x.std(over, keepdim=True)


def _bounds(x: Tensor) -> tuple[Tensor, Tensor]:
    over = (0, *range(2, x.ndim))
    return x.amin(over, keepdim=True), x.amax(over, keepdim=True)


def _constant(x: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    shape = (1, -1, *([1] * (x.ndim - 2)))
    return torch.tensor(mean).to(x).view(shape), torch.tensor(std).to(x).view(shape)


def _shown(values: Tensor | tuple[float, ...]) -> str:
    numbers = values.flatten().tolist() if isinstance(values, Tensor) else values
    return "(" + ", ".join(f"{number:.3g}" for number in numbers) + ")"
