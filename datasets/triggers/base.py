"""What all triggers share: the call, its checks, and triggers that are the same on every image."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from typing import Annotated

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ...errors import BadInput

WORD = 0xFFFFFFFF
Seed = Annotated[int, Field(ge=0, le=WORD)]
Shape = tuple[int, int, int]
"""(channels, height, width) of an image."""
_KEPT_LAYERS = 64


class Trigger(BaseModel, ABC):
    """Hyperparameters at construction, images at call.

    Calling it gives new images of the same shape, dtype and device, in [0, 1]; the input is not changed. The
    result for a sample depends on that sample and its index alone, never on the rest of the batch.

    Attributes:
        name: which trigger it is; a key of `triggers.TRIGGERS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str

    def __call__(self, images: Tensor, index: Tensor) -> Tensor:
        """Add the trigger.

        Args:
            images: float [N, C, H, W] in [0, 1], before normalisation; N may be 0.
            index: int64 [N], the positions of the samples in their dataset.

        Raises:
            BadInput: images of another shape or dtype, not one index a sample, images too small, or a file
                that the trigger is made of is missing, unreadable or no longer what it was.
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
        """Return the triggered images; the arguments are checked."""


class Overlay(Trigger):
    """A trigger that is the same on every image: kept * image + added, clipped to [0, 1]."""

    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        channels, height, width = images.shape[1:]
        kept, added = _layers(self, (channels, height, width), images.dtype, images.device)
        return (images * kept + added).clamp_(0, 1)

    @abstractmethod
    def layers(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """Return (kept, added) for images of ``shape``, floats on the CPU that broadcast to it.

        A pixel with kept 1 and added 0 does not change.
        """


@functools.lru_cache(maxsize=_KEPT_LAYERS)
def _layers(
    trigger: Overlay, shape: Shape, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return the layers of a trigger, drawn or read once; nobody changes them."""
    kept, added = trigger.layers(shape)
    return kept.to(device, dtype), added.to(device, dtype)


def check_fits(needed: int, height: int, width: int) -> None:
    """Check that a patch with its margin is no larger than the image.

    Args:
        needed: side of the patch and its margin, in pixels.
        height: of the images, in pixels.
        width: of the images, in pixels.

    Raises:
        BadInput: it is.
    """
    if needed > min(height, width):
        raise BadInput(
            f"a trigger of {needed} pixels (with its margin) does not fit into images of {height} x {width}; "
            f"choose a smaller size"
        )
