"""Random crops and flips of whole batches at once."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Augmentation = Literal["none", "crop", "crop_flip"]


def augment(images: Tensor, kind: Augmentation, generator: torch.Generator) -> Tensor:
    """Zero-pad by an eighth of the height, cut a random window of the old size, flip half of them.

    Args:
        images: float [N, C, H, W].
        kind: "crop" leaves the flip out (digits and road signs are not mirror-symmetric).
        generator: a CPU generator; the draws do not depend on the device of the images.

    Returns:
        A new tensor of the same shape, or ``images`` itself for "none".
    """
    if kind == "none":
        return images
    cropped = _random_crop(images, images.shape[-2] // 8, generator)
    if kind == "crop":
        return cropped
    flip = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flip.to(images.device)[:, None, None, None], cropped.flip(-1), cropped)


def _random_crop(images: Tensor, pad: int, generator: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    offsets = torch.randint(0, 2 * pad + 1, (2, count), generator=generator).to(images.device)
    rows = offsets[0][:, None] + torch.arange(height, device=images.device)
    columns = offsets[1][:, None] + torch.arange(width, device=images.device)
    padded = F.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    samples = torch.arange(count, device=images.device)[:, None, None]
    return padded[samples, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
