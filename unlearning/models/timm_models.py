"""Models of timm, by its names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import timm
from torch import nn

from ...errors import BadInput


def create_timm_model(
    name: str, *, width: float, num_classes: int, shape: tuple[int, int, int], others: Iterable[str]
) -> nn.Module:
    """Create a freshly initialised model of timm for images of ``shape`` (channels, height, width).

    Args:
        name: as in ``timm.list_models()``.
        width: must be 1; timm's models have fixed widths.
        num_classes: logits per image.
        shape: of the images.
        others: names that exist beside timm's, for the message about an unknown one.

    Raises:
        BadInput: unknown name, or another width.
    """
    if not timm.is_model(name):
        raise BadInput(_unknown_model(name, list(others)))
    if width != 1.0:
        raise BadInput(f"width {width}: timm's {name} has a fixed width; leave width at 1")
    size: dict[str, Any] = {"img_size": shape[1:]} if _takes_image_size(name) else {}
    model: nn.Module = timm.create_model(name, num_classes=num_classes, in_chans=shape[0], **size)
    return model


def _takes_image_size(name: str) -> bool:
    """Tell whether a model fixes the image size, as the position embedding of timm's transformers does."""
    cfg = timm.get_pretrained_cfg(name)
    return bool(cfg is not None and cfg.fixed_input_size)


def _unknown_model(name: str, others: list[str]) -> str:
    close = difflib.get_close_matches(name, [*others, *timm.list_models()], n=3)
    hint = f"did you mean {', '.join(close)}? " if close else ""
    return f"unknown model {name!r}: {hint}theriac has {', '.join(others)} and all of timm.list_models()"
