"""Mean and standard deviation of a normalisation, in whatever form they are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    Numbers = float | Sequence[float] | Tensor | np.ndarray
    """One number, or one a channel; [C, 1, 1] will do."""

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of images in [0, 1], one number each or one a channel."""


def normalisation(mean: Numbers, std: Numbers) -> Normalisation:
    """Read mean and standard deviation.

    Raises:
        BadInput: not numbers, not finite, a mean beyond 1, a standard deviation that is not positive, or two
            that are of different numbers of channels.
    """
    means, deviations = _numbers(mean, "mean"), _numbers(std, "std")
    if max(means) > 1:
        raise BadInput(
            f"mean = {max(means):g} is no mean of images in [0, 1]; give that, divided by 255 if pixels went "
            f"to 255"
        )
    if min(deviations) <= 0:
        raise BadInput(f"std = {min(deviations):g} is no standard deviation; give numbers above 0")
    if 1 not in (len(means), len(deviations)) and len(means) != len(deviations):
        raise BadInput(
            f"mean is of {len(means)} channels and std of {len(deviations)}; give both one number a channel"
        )
    return means, deviations


def over_channels(given: Normalisation, channels: int) -> Normalisation:
    """Return the same normalisation with one number a channel.

    Raises:
        BadInput: there are as many numbers as neither one nor the channels.
    """
    mean, std = (_spread(one, channels, name) for one, name in zip(given, ("mean", "std"), strict=True))
    return mean, std


def _spread(values: tuple[float, ...], channels: int, name: str) -> tuple[float, ...]:
    if len(values) not in (1, channels):
        raise BadInput(
            f"{name} has {len(values)} numbers and the images have {channels} channels; give one number, or "
            f"one a channel"
        )
    return values * channels if len(values) == 1 else values


def _numbers(given: Numbers, name: str) -> tuple[float, ...]:
    try:
        values = torch.as_tensor(given)
        odd = values.dtype is torch.bool or values.is_complex() or sum(side != 1 for side in values.shape) > 1
        numbers = None if odd else values.detach().cpu().double().flatten()
    except (TypeError, ValueError, RuntimeError, OverflowError):
        numbers = None
    if numbers is None or not len(numbers):
        raise BadInput(
            f"{name} = {_shown(given)} is no number and no list of numbers; give the {name} of the "
            f"normalisation as in training, such as 0.5 or (0.49, 0.48, 0.45)"
        )
    if not all(math.isfinite(number) for number in numbers.tolist()):
        raise BadInput(f"{name} = {_shown(given)} is not finite; give the {name} of the normalisation")
    return tuple(numbers.tolist())


def _shown(given: object) -> str:
    """Show a value in one short line."""
    words = " ".join(repr(given).split())
    return words if len(words) <= 60 else f"{words[:57]}..."
