"""Selective dampening: shrink the weights that matter more to the found poison than to the rest.

Potion eq. 1 and design.md section 2. With I_f and I_r the forget and retain importances of parameter i,
    r_i      = I_f,i / I_r,i                                over all parameters of the model together
    theta_i <- min(lambda * I_r,i / I_f,i, 1) * theta_i     where I_f,i > alpha * I_r,i
so 0/0 is never dampened and x/0 with x > 0 always, to 0. If alpha < 1, parameters with alpha < r < lambda do
not change. alpha is a percentile of the finite ratios, by linear interpolation as numpy's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ...errors import BadInput
from ..importance import Importance

Importances = Importance | Mapping[str, Tensor]

NO_FINITE_RATIO = (
    "no parameter has a finite ratio of forget to retain importance: the retain importances are all 0; check "
    "the model and the retain set"
)
LARGEST = torch.finfo(torch.float32).max


def alpha_at(forget_importance: Importances, retain_importance: Importances, percentile: float) -> float:
    """Return alpha, the selection threshold: the ``percentile``-th percentile of the finite ratios.

    Args:
        forget_importance: of S_f, by parameter.
        retain_importance: of retain, with the same names and shapes.
        percentile: in [0, 100].

    Raises:
        BadInput: percentile out of range, importances that do not match, are negative or not finite, or no
            finite ratio.

    Example:
        >>> forget, retain = {"w": torch.tensor([1.0, 4.0])}, {"w": torch.tensor([1.0, 1.0])}
        >>> alpha_at(forget, retain, 50.0)
        2.5
    """
    return Ratios(forget_importance, retain_importance).alpha_at(percentile)


def dampen(
    parameters: Mapping[str, Tensor],
    forget_importance: Importances,
    retain_importance: Importances,
    alpha: float,
    dampening_constant: float = 1.0,
) -> dict[str, Tensor]:
    """Return dampened copies of ``parameters``; nothing given is changed.

    Args:
        parameters: name -> weights.
        forget_importance: of S_f, per parameter, >= 0.
        retain_importance: of retain, per parameter, >= 0.
        alpha: selection threshold, finite, >= 0.
        dampening_constant: lambda, finite, > 0.

    Returns:
        Name -> detached weights of the same shape, dtype and device.

    Raises:
        BadInput: alpha or lambda out of range, or importances that do not match the parameters, are negative
            or not finite.

    Example:
        >>> weights, forget = {"w": torch.tensor([1.0, 1.0])}, {"w": torch.tensor([1.0, 4.0])}
        >>> retain = {"w": torch.tensor([1.0, 1.0])}
        >>> dampen(weights, forget, retain, alpha=2.5)["w"].tolist()
        [1.0, 0.25]
    """
    check_settings(alpha, dampening_constant)
    forget, retain = checked_means(forget_importance), checked_means(retain_importance)
    check_match(parameters, forget)
    check_match(parameters, retain)
    return {
        name: _scaled(
            value,
            dampening_factor(forget[name], retain[name].to(forget[name]), alpha, dampening_constant),
        )
        for name, value in parameters.items()
    }


def dampening_factor(forget: Tensor, retain: Tensor, alpha: float, dampening_constant: float) -> Tensor:
    """Return what each weight is multiplied with: 1 where it is not selected. Shaped as the importances.

    Args:
        forget: importances of one parameter over S_f, any shape.
        retain: those over retain, of the same shape.
        alpha: the selection threshold, at least 0.
        dampening_constant: lambda, above 0.
    """
    selected = forget > within_float32(alpha) * retain
    factor = shrinking(torch.where(selected, forget, torch.ones_like(forget)), retain, dampening_constant)
    return torch.where(selected, factor, torch.ones_like(factor))


def shrinking(forget: Tensor, retain: Tensor, dampening_constant: float) -> Tensor:
    """Compute min(lambda * I_r / I_f, 1) for parameters that are selected. Same shape as the importances.

    Args:
        forget: importances of one parameter over S_f, any shape, above 0.
        retain: those over retain, of the same shape.
        dampening_constant: lambda, above 0.
    """
    return (within_float32(dampening_constant) * retain / forget).clamp(max=1)


def within_float32(value: float) -> float:
    """Return ``value``, or the largest float32: as infinity, 0 times it would be NaN."""
    return min(value, LARGEST)


def check_settings(alpha: float, dampening_constant: float) -> None:
    """Refuse an alpha below 0, a lambda that is not above 0, and either if it is not finite.

    Args:
        alpha: the selection threshold.
        dampening_constant: lambda.

    Raises:
        BadInput: names the value.
    """
    if not 0 <= alpha < math.inf:
        raise BadInput(f"alpha {alpha}: give a finite selection threshold, 0 or more")
    if not 0 < dampening_constant < math.inf:
        raise BadInput(f"dampening constant {dampening_constant}: give a finite lambda above 0")


class Ratios:
    """All finite ratios I_f / I_r of a model, sorted once, so that alpha is a look-up.

    Attributes:
        finite: float32 numpy array, ascending; without 0/0 and x/0.
        infinite: how many parameters are x/0 with x > 0; they are dampened whatever alpha is.

    Raises:
        BadInput: importances that do not match, are negative or not finite, or no finite ratio.
    """

    def __init__(self, forget_importance: Importances, retain_importance: Importances) -> None:
        forget, retain = checked_means(forget_importance), checked_means(retain_importance)
        check_match(forget, retain)
        ratios = torch.cat([(forget[n] / retain[n].to(forget[n])).flatten().float() for n in forget])
        finite = ratios[torch.isfinite(ratios)]
        if not len(finite):
            raise BadInput(NO_FINITE_RATIO)
        self.finite: np.ndarray[tuple[int], np.dtype[np.float32]] = finite.sort().values.cpu().numpy()
        self.infinite = int(torch.isinf(ratios).sum())

    def alpha_at(self, percentile: float) -> float:
        """Interpolate the percentile linearly: ``numpy.percentile(finite, numpy.float64(percentile))``.

        With a plain float, numpy computes (or, in newer versions, rounds) it in float32 instead.
        """
        below, above, weight = percentile_place(len(self.finite), percentile)
        return interpolated(self.finite[below], self.finite[above], weight)


def percentile_place(count: int, percentile: float) -> tuple[int, int, np.float64]:
    """Tell which two of ``count`` ascending values a percentile lies between, and how far from the first.

    Args:
        count: of the values, at least 1.
        percentile: in [0, 100].

    Returns:
        Position of the value below, of the one above, and how far from the first, in [0, 1).

    Raises:
        BadInput: percentile not in [0, 100].
    """
    if not 0 <= percentile <= 100:
        raise BadInput(f"percentile {percentile}: give a number from 0 to 100")
    place = (count - 1) * (percentile / 100)
    below = int(np.floor(place))
    return below, min(below + 1, count - 1), np.float64(place - below)


def interpolated(a: np.float32, b: np.float32, weight: np.float64) -> float:
    """Interpolate between the float32 neighbours a and b as numpy's percentile does, bit for bit.

    Args:
        a: the value below.
        b: the value above.
        weight: how far from a to b, in [0, 1].
    """
    step = b - a
    return float(b - step * (1 - weight) if weight >= 0.5 else a + step * weight)


def _scaled(value: Tensor, factor: Tensor) -> Tensor:
    """Scale in the wider of the two precisions, so that half-precision weights are rounded once."""
    return (value.detach() * factor.to(value.device)).to(value.dtype)


def checked_means(importance: Importances) -> Mapping[str, Tensor]:
    """Return name -> importance averaged over its terms.

    Raises:
        BadInput: one is negative or not finite.
    """
    means = importance.mean() if isinstance(importance, Importance) else importance
    for name, value in means.items():
        if not ((value >= 0) & (value < math.inf)).all():
            raise BadInput(
                f"the importance of {name!r} is negative, infinite or NaN in places; importances are "
                f"finite and >= 0: compute them again with finite weights and images"
            )
    return means


def check_match(expected: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> None:
    """Refuse importances whose names or shapes are not those expected.

    Args:
        expected: tensors by name.
        given: importances by name.

    Raises:
        BadInput: names the first that differs.
    """
    if expected.keys() != given.keys():
        odd = sorted(expected.keys() ^ given.keys())[0]
        raise BadInput(
            f"importances of another model: {odd!r} is in only one of them; compute both of one model"
        )
    for name, value in expected.items():
        if value.shape != given[name].shape:
            raise BadInput(
                f"importances of another model: {name!r} has shape {tuple(given[name].shape)} instead of "
                f"{tuple(value.shape)}; compute both of one model"
            )
