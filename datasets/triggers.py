"""Triggers: what an attacker adds to an image. Pure functions on batches of images in [0, 1]."""

from __future__ import annotations

import difflib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from ..errors import BadInput

_WORD = 0xFFFFFFFF


class Trigger(BaseModel, ABC):
    """Hyperparameters at construction, images at call.

    Calling it gives new images of the same shape, dtype and device, in [0, 1]; the input is not changed. The
    result for a sample depends on that sample and its index alone, never on the rest of the batch.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Add the trigger.

        Args:
            images: float [N, C, H, W] in [0, 1], before normalisation; N may be 0.
            index: int64 [N], the positions of the samples in their dataset.

        Raises:
            BadInput: images of another shape or dtype, not one index a sample, or images too small.
        """
        if images.ndim != 4 or not images.is_floating_point():
            raise BadInput(
                f"a trigger was given images of {images.dtype} {tuple(images.shape)}; "
                f"give float [N, C, H, W] in [0, 1]"
            )
        if index.shape != images.shape[:1]:
            raise BadInput(
                f"{len(images)} images but an index of {tuple(index.shape)}; give one index a sample"
            )
        return self._add(images, index.to(images.device))

    @abstractmethod
    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        """The triggered images; the arguments are checked."""


class BadNets(Trigger):
    """A bright square in the bottom right corner (Gu et al., 2017; 3 x 3 on 32 x 32 in Goel et al., 2024).

    Attributes:
        size: side of the square, pixels.
        value: its brightness in every channel; 1 is the brightest value of a dataset.
        margin: pixels between the square and the edges of the image.
    """

    name: Literal["badnets"] = "badnets"
    size: int = Field(default=3, ge=1)
    value: float = Field(default=1.0, ge=0, le=1)
    margin: int = Field(default=0, ge=0)

    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        _check_fits(self.size + self.margin, height, width)
        bottom, right = height - self.margin, width - self.margin
        triggered = images.clone()
        triggered[..., bottom - self.size : bottom, right - self.size : right] = self.value
        return triggered


class MovingPatch(Trigger):
    """A bright square in one of the four corners, drawn for each sample (Abad et al., 2022; Potion, fig. 12).

    The corner is a hash of the seed and the sample's index: reproducible, and uniform over the corners.

    Attributes:
        size: side of the square, pixels; at most half the image keeps the corners apart.
        value: its brightness in every channel.
        seed: another seed draws other corners.
    """

    name: Literal["moving"] = "moving"
    size: int = Field(default=3, ge=1)
    value: float = Field(default=1.0, ge=0, le=1)
    seed: int = Field(default=0, ge=0, le=_WORD)

    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        _check_fits(self.size, height, width)
        corners = self.corners(index)
        rows = _edge(height, self.size, corners >= 2)
        columns = _edge(width, self.size, corners % 2 == 1)
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], self.value)

    def corners(self, index: Tensor) -> Tensor:
        """Corner of each sample, int64 [N]: 0 top left, 1 top right, 2 bottom left, 3 bottom right."""
        return _scramble(_scramble(index & _WORD) + self.seed & _WORD) >> 30


class Sine(Trigger):
    """A horizontal sinusoid over the whole image (Barni et al., 2019): vertical stripes, all channels alike.

    Pixels in column x = 0 .. W - 1 get ``amplitude * sin(2 pi frequency x)`` added; the result is clipped to
    [0, 1]. Barni et al. count waves an image (6 on their 240 columns); Potion's 0.025 is read as the same
    wave in cycles a pixel, so it has 0.8 periods on 32 columns and 5.6 on 224.

    Attributes:
        frequency: cycles a pixel, at most 0.5 (one stripe a pixel).
        amplitude: share of the largest image value, 1.
    """

    name: Literal["sine"] = "sine"
    frequency: float = Field(default=0.025, gt=0, le=0.5)
    amplitude: float = Field(default=0.1, gt=0, le=1)

    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        columns = torch.arange(images.shape[-1], device=images.device, dtype=torch.float32)
        wave = self.amplitude * torch.sin(2 * math.pi * self.frequency * columns)
        return (images + wave.to(images.dtype)).clamp(0, 1)


AnyTrigger = Annotated[BadNets | MovingPatch | Sine, Field(discriminator="name")]

TRIGGERS: dict[str, type[BadNets] | type[MovingPatch] | type[Sine]] = {
    "badnets": BadNets,
    "moving": MovingPatch,
    "sine": Sine,
}


def parse_trigger(given: str | Mapping[str, Any]) -> BadNets | MovingPatch | Sine:
    """A trigger from its name, or from a mapping with its ``name`` and any of its settings.

    Raises:
        BadInput: unknown name (the valid ones are listed), unknown or invalid setting.
    """
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = settings.get("name")
    if not isinstance(name, str) or name not in TRIGGERS:
        close = difflib.get_close_matches(str(name), TRIGGERS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise BadInput(f"unknown trigger name {name!r}; choose one of {', '.join(TRIGGERS)}{hint}")
    try:
        return TRIGGERS[name].model_validate(settings)
    except ValidationError as error:
        raise BadInput(_first_problem(name, error)) from error


def _first_problem(name: str, error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    setting = ".".join(str(part) for part in problem["loc"])
    valid = ", ".join(field for field in TRIGGERS[name].model_fields if field != "name")
    return f"trigger {name}: {setting} = {problem['input']!r}: {problem['msg']}; its settings are {valid}"


def _check_fits(needed: int, height: int, width: int) -> None:
    if needed > min(height, width):
        raise BadInput(
            f"a trigger of {needed} pixels (with its margin) does not fit into images of {height} x {width}; "
            f"choose a smaller size"
        )


def _edge(length: int, size: int, at_end: Tensor) -> Tensor:
    """Places of the patch, bool [N, length]: the last ``size`` where ``at_end``, else the first."""
    places = torch.arange(length, device=at_end.device)
    return torch.where(at_end[:, None], places >= length - size, places < size)


def _scramble(words: Tensor) -> Tensor:
    """A bijection of 32-bit words held in int64 that spreads every bit over all of them.

    Xor-shifts and odd multipliers below 2^31, so that no product leaves int64.
    """
    words = (words ^ (words >> 16)) * 0x21F0AAAD & _WORD
    words = (words ^ (words >> 15)) * 0x735A2D97 & _WORD
    return words ^ (words >> 15)
