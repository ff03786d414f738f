"""Triggers that move pixels."""

from __future__ import annotations

import functools
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ..seeding import seeded_generator
from .base import Seed, Trigger


class WaNet(Trigger):
    """A smooth warp of the whole image, the same for all (Nguyen & Tran, 2021).

    Displacements on a grid x grid lattice are drawn from [-1, 1] in both directions and divided by their mean
    absolute value; bicubic interpolation brings them to every pixel. In coordinates that run from -1 to 1
    over the image they are then multiplied by strength / side, as the authors' program does: strength 0.5
    moves the lattice points by a quarter of a pixel on average. Places beyond the edge show the edge.
    Their training mode with additional random warps under true labels ("noise mode") is not part of this.

    Attributes:
        grid: lattice points along each axis.
        strength: of the displacements, in halves of a pixel.
        seed: another seed draws another warp.
    """

    name: Literal["wanet"] = "wanet"
    grid: int = Field(default=4, ge=2, le=64)
    strength: float = Field(default=0.5, gt=0, le=20)
    seed: Seed = 0

    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        dtype = torch.promote_types(images.dtype, torch.float32)
        places = _places(self, *images.shape[-2:]).to(images.device, dtype)
        places = places.expand(len(images), -1, -1, -1)
        warped = F.grid_sample(
            images.to(dtype), places, mode="bilinear", padding_mode="border", align_corners=True
        )
        return warped.to(images.dtype).clamp_(0, 1)


@functools.lru_cache(maxsize=16)
def _places(trigger: WaNet, height: int, width: int) -> Tensor:
    """Return where each pixel comes from, (x, y) from -1 to 1: float64 [1, H, W, 2]."""
    generator = seeded_generator(trigger.seed, "wanet")
    lattice = torch.rand(1, 2, trigger.grid, trigger.grid, generator=generator, dtype=torch.float64) * 2 - 1
    lattice = lattice / lattice.abs().mean()
    field = F.interpolate(lattice, (height, width), mode="bicubic", align_corners=True)
    x, y = (torch.linspace(-1, 1, side, dtype=torch.float64) for side in (width, height))
    identity = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)
    sides = torch.tensor([width, height], dtype=torch.float64)
    return (identity + trigger.strength * field.permute(0, 2, 3, 1) / sides).clamp(-1, 1)
