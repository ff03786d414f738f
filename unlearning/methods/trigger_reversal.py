"""The smallest trigger that sends clean images to a class, for each class (Wang et al., 2019)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from ...datasets.samples import Samples
from ..inference import check_logits, evaluating
from ..models import sound_batch_norm

CONSISTENCY = 1.4826
"""MAD times this estimates the standard deviation of a normal distribution."""


class TriggerReversal(BaseModel):
    """How a mask and a pattern are optimised.

    A triggered image is (1 - mask) * image + mask * pattern, in pixels from 0 to 1 (equation 2), with one
    mask [H, W] for all channels; mask and pattern are (tanh + 1) / 2 of what Adam changes. Minimised is
    cross-entropy to the class + weight * sum of the mask (equation 3). The weight of a class grows by
    ``factor`` after ``patience`` rounds in which at least ``success`` of the images went to the class, and
    falls by factor^1.5 after as many in which fewer did. The result is the smallest mask that worked.

    The authors run 1000 rounds of a whole pass over the images with early stopping, and begin with weight 0;
    a fixed number of shorter rounds for all classes together, from ``weight`` on, is what differs here.

    Attributes:
        rounds: after each of which the weights adapt.
        steps: of Adam a round, each on new images.
        batch_size: images of a step; every class sees the same ones.
        rate: of Adam.
        weight: of the mask's sum at the start.
        factor: see above.
        patience: rounds.
        success: share of images that a trigger has to send to its class.
        classes_at_once: classes optimised together; less needs less memory and changes nothing else.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rounds: int = Field(default=100, ge=1, le=2**31)
    steps: int = Field(default=10, ge=1, le=2**31)
    batch_size: int = Field(default=32, ge=1, le=2**31)
    rate: float = Field(default=0.1, gt=0, le=10)
    weight: float = Field(default=1e-3, gt=0, le=10)
    factor: float = Field(default=2.0, gt=1, le=100)
    patience: int = Field(default=5, ge=1, le=2**31)
    success: float = Field(default=0.99, gt=0, le=1)
    classes_at_once: int = Field(default=10, ge=1, le=2**31)


@dataclass(frozen=True, kw_only=True, eq=False)
class ReversedTriggers:
    """A trigger a class.

    Attributes:
        masks: float32 [K, 1, H, W] in [0, 1].
        patterns: float32 [K, C, H, W] in [0, 1].
        success: float32 [K], share of the clean images that went to the class, of a round's images.
    """

    masks: Tensor
    patterns: Tensor
    success: Tensor

    @property
    def norms(self) -> Tensor:
        """Return the sum of each mask, in pixels: [K]."""
        return self.masks.sum((1, 2, 3))

    def add(self, pixels: Tensor, which: Tensor) -> Tensor:
        """Return ``pixels`` [N, C, H, W] in [0, 1] with the triggers of the classes ``which``, int64 [N]."""
        return _blend(pixels, self.masks[which], self.patterns[which])


def anomaly_indices(norms: Tensor) -> Tensor:
    """Return how many (estimated) standard deviations each norm lies below the median, by the median one.

    This is section V of the paper, with a sign: larger norms than the median have negative indices. Where
    more than half of the norms are equal, every other is infinitely far from them.
    """
    norms = norms.double()
    below = norms.quantile(0.5) - norms
    deviation = CONSISTENCY * below.abs().quantile(0.5)
    return torch.where(below == 0, torch.zeros_like(below), below / deviation)


def reverse_triggers(
    model: nn.Module, samples: Samples, settings: TriggerReversal, generator: torch.Generator
) -> ReversedTriggers:
    """Optimise a trigger for each class of ``model`` on clean images.

    Args:
        model: in eval mode meanwhile; afterwards it is as it was.
        samples: clean images; their labels are not used.
        settings: see `TriggerReversal`.
        generator: draws the images and the start, which all classes share.
    """
    with evaluating(model), _fixed(model):
        first, _ = samples.batch(torch.arange(1))
        classes = check_logits(model(first), 1).shape[1]
        draws = generator.get_state()
        parts = []
        for targets in torch.arange(classes, device=samples.device).split(settings.classes_at_once):
            generator.set_state(draws)
            parts.append(_Reversal(model, samples, settings, targets, first.shape[1:], generator).run())
    return ReversedTriggers(
        masks=torch.cat([part.masks for part in parts]),
        patterns=torch.cat([part.patterns for part in parts]),
        success=torch.cat([part.success for part in parts]),
    )


@contextmanager
def _fixed(model: nn.Module) -> Iterator[None]:
    """Turn off the gradients of the parameters inside the block, which would cost as much again."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


class _Reversal:
    """The triggers of some classes, side by side."""

    def __init__(
        self,
        model: nn.Module,
        samples: Samples,
        settings: TriggerReversal,
        targets: Tensor,
        shape: torch.Size,
        generator: torch.Generator,
    ) -> None:
        self._model, self._samples, self._settings = model, samples, settings
        self._targets, self._generator = targets, generator
        count, device = len(targets), targets.device
        channels, height, width = shape
        self._mask = _start((1, height, width), count, generator, device)
        self._pattern = _start((channels, height, width), count, generator, device)
        self._optimizer = torch.optim.Adam([self._mask, self._pattern], lr=settings.rate, betas=(0.5, 0.9))
        self._weights = torch.full((count,), settings.weight, device=device)
        self._good, self._bad = torch.zeros(2, count, dtype=torch.int64, device=device)
        self._smallest = torch.full((count,), math.inf, device=device)

    def run(self) -> ReversedTriggers:
        best = self._now(torch.zeros_like(self._smallest))
        for _ in range(self._settings.rounds):
            worked = [self._step() for _ in range(self._settings.steps)]
            now = self._now(torch.stack(worked).mean(0))
            best = self._better(now, best)
            self._adapt(now.success >= self._settings.success)
        return best

    def _step(self) -> Tensor:
        pixels = _some_pixels(self._samples, self._settings.batch_size, self._generator)
        mask, pattern = _unit(self._mask), _unit(self._pattern)
        triggered = _blend(pixels, mask[:, None], pattern[:, None]).flatten(0, 1)
        with sound_batch_norm(self._model):
            logits = self._model(normalised(triggered, self._samples)).float()
        wanted = self._targets.repeat_interleave(len(pixels))
        losses = F.cross_entropy(logits, wanted, reduction="none").view(-1, len(pixels)).mean(1)
        self._optimizer.zero_grad()
        (losses + self._weights * mask.sum((1, 2, 3))).sum().backward()
        self._optimizer.step()
        worked: Tensor = (logits.argmax(1) == wanted).view(-1, len(pixels)).float().mean(1)
        return worked

    @torch.no_grad()
    def _now(self, success: Tensor) -> ReversedTriggers:
        return ReversedTriggers(masks=_unit(self._mask), patterns=_unit(self._pattern), success=success)

    def _better(self, now: ReversedTriggers, best: ReversedTriggers) -> ReversedTriggers:
        """Take for each class the smaller mask if it works; the newer one while none has worked yet."""
        works = (now.success >= self._settings.success) & (now.norms < self._smallest)
        self._smallest = torch.where(works, now.norms, self._smallest)
        take = works | self._smallest.isinf()
        image = take[:, None, None, None]
        return ReversedTriggers(
            masks=torch.where(image, now.masks, best.masks),
            patterns=torch.where(image, now.patterns, best.patterns),
            success=torch.where(take, now.success, best.success),
        )

    def _adapt(self, worked: Tensor) -> None:
        self._good = torch.where(worked, self._good + 1, 0)
        self._bad = torch.where(worked, 0, self._bad + 1)
        up, down = (count >= self._settings.patience for count in (self._good, self._bad))
        factor = self._settings.factor
        self._weights = torch.where(up, self._weights * factor, self._weights)
        self._weights = torch.where(down, self._weights / factor**1.5, self._weights)
        self._good, self._bad = torch.where(up, 0, self._good), torch.where(down, 0, self._bad)


def _start(shape: tuple[int, ...], count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Draw values whose `_unit` is uniform, the same for each class."""
    uniform = torch.rand(shape, generator=generator).clamp(0.01, 0.99)
    values = torch.atanh(2 * uniform - 1).to(device)
    return values.expand(count, *shape).clone().requires_grad_()


def _unit(values: Tensor) -> Tensor:
    return (torch.tanh(values) + 1) / 2


def _blend(pixels: Tensor, mask: Tensor, pattern: Tensor) -> Tensor:
    return (1 - mask) * pixels + mask * pattern


def _some_pixels(samples: Samples, count: int, generator: torch.Generator) -> Tensor:
    rows = torch.randint(len(samples), (count,), generator=generator)
    return in_pixels(samples.batch(rows)[0], samples)


def in_pixels(x: Tensor, samples: Samples) -> Tensor:
    """Bring images as a model takes them back to [0, 1]."""
    mean, std = _scale(samples, x)
    return x * std + mean


def normalised(pixels: Tensor, samples: Samples) -> Tensor:
    """Normalise pixels in [0, 1] as a model takes them."""
    mean, std = _scale(samples, pixels)
    return (pixels - mean) / std


def _scale(samples: Samples, like: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(v, device=like.device).view(1, -1, 1, 1) for v in (samples.mean, samples.std))
    return mean, std
