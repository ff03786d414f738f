"""Triggers that replace some pixels: bright squares, and the drawn Trojan triggers."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from ..seeding import seeded_generator
from .base import WORD, Overlay, Seed, Shape, Trigger, check_fits

Corner = Literal["top_left", "top_right", "bottom_left", "bottom_right"]


class BadNets(Trigger):
    """A bright square in the bottom right corner (Gu et al., 2017; 3 x 3 on 32 x 32 in Goel et al., 2024).

    With size 4 and margin 1 it is I-BAU's: rows and columns 27 to 30 of 32.

    Attributes:
        size: side of the square, pixels.
        value: its brightness in every channel; 1 is the brightest value of a dataset.
        margin: pixels between the square and the edges of the image.

    Example:
        >>> import torch
        >>> from theriac.datasets.triggers import BadNets
        >>> triggered = BadNets(size=2)(torch.zeros(1, 3, 8, 8), index=torch.tensor([0]))
        >>> triggered[0, 0, 5:].sum(1).tolist()
        [0.0, 2.0, 2.0]
    """

    name: Literal["badnets"] = "badnets"
    size: int = Field(default=3, ge=1, le=2**31)
    value: float = Field(default=1.0, ge=0, le=1)
    margin: int = Field(default=0, ge=0, le=2**31)

    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        check_fits(self.size + self.margin, height, width)
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
    size: int = Field(default=3, ge=1, le=2**31)
    value: float = Field(default=1.0, ge=0, le=1)
    seed: Seed = 0

    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        check_fits(self.size, height, width)
        corners = self.corners(index)
        rows = _edge(height, self.size, corners >= 2)
        columns = _edge(width, self.size, corners % 2 == 1)
        return images.masked_fill((rows[:, :, None] & columns[:, None, :])[:, None], self.value)

    def corners(self, index: Tensor) -> Tensor:
        """Return corner of each sample, int64 [N]: 0 top left, 1 top right, 2 bottom left, 3 bottom right."""
        return _scramble(_scramble(index & WORD) + self.seed & WORD) >> 30


class TrojanSquare(Overlay):
    """A small colourful square (Liu et al., 2018, as I-BAU's Trojan SQ).

    Theirs is optimised to excite chosen neurons of a network; here every pixel of the square has a colour
    drawn uniformly, which needs no network.

    Attributes:
        size: side of the square, pixels.
        margin: pixels between the square and the edges of the image.
        corner: where it is.
        seed: another seed draws other colours.
    """

    name: Literal["trojan_square"] = "trojan_square"
    size: int = Field(default=5, ge=1, le=2**31)
    margin: int = Field(default=1, ge=0, le=2**31)
    corner: Corner = "bottom_right"
    seed: Seed = 0

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        channels, height, width = shape
        check_fits(self.size + self.margin, height, width)
        place = (..., *self._place(height, width))
        kept, added = torch.ones(1, height, width), torch.zeros(shape)
        generator = seeded_generator(self.seed, "trojan square")
        kept[place] = 0
        added[place] = torch.rand(channels, self.size, self.size, generator=generator)
        return kept, added

    def _place(self, height: int, width: int) -> tuple[slice, slice]:
        vertical, horizontal = self.corner.split("_")
        top = self.margin if vertical == "top" else height - self.margin - self.size
        left = self.margin if horizontal == "left" else width - self.margin - self.size
        return slice(top, top + self.size), slice(left, left + self.size)


class TrojanWatermark(Overlay):
    """Thin strokes and a ring over the whole image (Liu et al., 2018, as I-BAU's Trojan WM).

    Theirs is a logo whose colours are optimised to excite chosen neurons of a network; here position and
    colour of the strokes are drawn, which needs no network. The brightest channel of each colour is 1.
    Lengths are shares of the image's shorter side.

    Attributes:
        strokes: number of straight strokes.
        ring: radius of a ring around the centre; 0 for none.
        thickness: of strokes and ring.
        opacity: how much they cover what is below.
        seed: another seed draws other strokes and colours.
    """

    name: Literal["trojan_watermark"] = "trojan_watermark"
    strokes: int = Field(default=4, ge=1, le=100)
    ring: float = Field(default=0.35, ge=0, le=0.5)
    thickness: float = Field(default=0.04, gt=0, le=0.5)
    opacity: float = Field(default=1.0, gt=0, le=1)
    seed: Seed = 0

    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        channels, height, width = shape
        generator = seeded_generator(self.seed, "trojan watermark")
        kept, added = torch.ones(1, height, width), torch.zeros(shape)
        for distance in self._distances(height, width, generator):
            colour = torch.rand(channels, 1, 1, generator=generator)
            cover = self.opacity * (0.5 + self.thickness * min(height, width) / 2 - distance).clamp(0, 1)
            kept = kept * (1 - cover)
            added = added * (1 - cover) + cover * colour / colour.max()
        return kept, added

    def _distances(self, height: int, width: int, generator: torch.Generator) -> list[Tensor]:
        """Return how far pixels' centres are from each stroke and the ring, in pixels: float32 [H, W]."""
        y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        ends = torch.rand(self.strokes, 2, 2, generator=generator) * torch.tensor([height, width])
        distances = [_to_segment(y, x, one.tolist()) for one in ends]
        if self.ring:
            radius = torch.hypot(y - height / 2, x - width / 2)
            distances.append((radius - self.ring * min(height, width)).abs())
        return distances


def _to_segment(y: Tensor, x: Tensor, ends: list[list[float]]) -> Tensor:
    """Return the distance of the points (y, x) to the straight line between two ends."""
    (y0, x0), (y1, x1) = ends
    dy, dx = y1 - y0, x1 - x0
    along = ((y - y0) * dy + (x - x0) * dx) / max(math.hypot(dy, dx) ** 2, 1e-12)
    along = along.clamp(0, 1)
    return torch.hypot(y - y0 - along * dy, x - x0 - along * dx)


def _edge(length: int, size: int, at_end: Tensor) -> Tensor:
    """Return places of the patch, bool [N, length]: the last ``size`` where ``at_end``, else the first."""
    places = torch.arange(length, device=at_end.device)
    return torch.where(at_end[:, None], places >= length - size, places < size)


def _scramble(words: Tensor) -> Tensor:
    """Return a bijection of 32-bit words held in int64 that spreads every bit over all of them.

    Xor-shifts and odd multipliers below 2^31, so that no product leaves int64.
    """
    words = (words ^ (words >> 16)) * 0x21F0AAAD & WORD
    words = (words ^ (words >> 15)) * 0x735A2D97 & WORD
    return words ^ (words >> 15)
