"""Triggers that add a pattern to the image: a wave, and patterns bounded in a norm or in frequency."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ...errors import BadInput
from ..seeding import seeded_generator
from .base import Overlay, Seed, Shape

_ONE = torch.ones(1, 1, 1)


class Sine(Overlay):
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

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        columns = torch.arange(shape[-1], dtype=torch.float32)
        wave = self.amplitude * torch.sin(2 * math.pi * self.frequency * columns)
        return _ONE, wave[None, None]


class L0(Overlay):
    """A pattern on few pixels (after the l0-bounded trigger of Li et al., 2020, I-BAU's l0 inv).

    Theirs is optimised to excite neurons of a network; here the pixels are drawn, and each has a colour drawn
    from the corners of the colour cube (every channel 0 or 1), which needs no network.

    Attributes:
        pixels: how many pixels may change, in all their channels; the bound of the norm.
        mode: "set": the pixel moves towards its colour, by ``amplitude`` of the way; "add": each channel
            gets ``amplitude`` added where its colour has 1, and subtracted where it has 0.
        amplitude: see ``mode``.
        seed: another seed draws other pixels and colours.
    """

    name: Literal["l0"] = "l0"
    pixels: int = Field(default=8, ge=1, le=2**31)
    mode: Literal["set", "add"] = "set"
    amplitude: float = Field(default=1.0, gt=0, le=1)
    seed: Seed = 0

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        channels, height, width = shape
        where, colours = self._drawn(channels, height, width)
        kept, added = torch.ones(1, height * width), torch.zeros(channels, height * width)
        if self.mode == "set":
            kept[:, where] = 1 - self.amplitude
            added[:, where] = self.amplitude * colours
        else:
            added[:, where] = self.amplitude * (2 * colours - 1)
        return kept.view(1, height, width), added.view(shape)

    def _drawn(self, channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Draw the pixels, int64 [k] in row-major order, and their colours, float32 [C, k]."""
        if self.pixels > height * width:
            raise BadInput(
                f"an l0 trigger on {self.pixels} pixels does not fit into images of {height} x {width}; "
                f"choose fewer pixels"
            )
        generator = seeded_generator(self.seed, "l0")
        where = torch.randperm(height * width, generator=generator)[: self.pixels]
        colours = torch.randint(0, 2, (self.pixels, channels), generator=generator)
        return where, colours.T.float()


class L2(Overlay):
    """A dense pattern of small l2 norm (after the l2-bounded trigger of Li et al., 2020, I-BAU's l2 inv).

    Theirs is optimised to excite neurons of a network; here every value is drawn from a normal distribution,
    which needs no network. I-BAU's published pattern (a file for `Additive`) has norm 3.2.

    Attributes:
        norm: ||pattern||_2 over all channels and pixels of one image in [0, 1]. What clipping leaves of it
            is smaller.
        seed: another seed draws another pattern.
    """

    name: Literal["l2"] = "l2"
    norm: float = Field(default=3.0, gt=0, le=1000)
    seed: Seed = 0

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        generator = seeded_generator(self.seed, "l2")
        pattern = torch.randn(shape, generator=generator, dtype=torch.float64)
        return _ONE, (pattern * (self.norm / pattern.norm())).float()


class Smooth(Overlay):
    """A pattern of low frequencies only (Zeng et al., 2021).

    A sum of cosines, drawn in each channel: the coefficients (u, v) of the two-dimensional DCT-II with u and
    v below the cut-off, without (0, 0), are normal; all others are 0. Theirs is optimised against a network
    under such a constraint; this needs no network.

    Attributes:
        cutoff: number of DCT frequencies along each axis, the constant one included.
        amplitude: largest absolute value of the pattern.
        seed: another seed draws another pattern.
    """

    name: Literal["smooth"] = "smooth"
    cutoff: int = Field(default=4, ge=2, le=2**31)
    amplitude: float = Field(default=0.1, gt=0, le=1)
    seed: Seed = 0

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        return _ONE, self.amplitude * low_frequencies(shape, self.cutoff, self.seed, "smooth")


def low_frequencies(shape: Shape, cutoff: int, seed: int, purpose: str) -> Tensor:
    """Draw a seeded sum of cosines, see `Smooth`: float32 [C, H, W], its largest absolute value is 1.

    Raises:
        BadInput: the image has fewer frequencies than ``cutoff``.
    """
    channels, height, width = shape
    if cutoff > min(height, width):
        raise BadInput(
            f"{cutoff} frequencies are more than images of {height} x {width} have; choose a lower cut-off"
        )
    generator = seeded_generator(seed, purpose)
    coefficients = torch.randn(channels, cutoff, cutoff, generator=generator, dtype=torch.float64)
    coefficients[:, 0, 0] = 0
    field = _cosines(height, cutoff).T @ coefficients @ _cosines(width, cutoff)
    return (field / field.abs().max()).float()


def _cosines(length: int, count: int) -> Tensor:
    """Return the first ``count`` rows of the DCT-II basis, unscaled: float64 [count, length]."""
    frequencies, places = torch.arange(count), torch.arange(length, dtype=torch.float64)
    return torch.cos(math.pi * frequencies[:, None] * (places + 0.5) / length)
