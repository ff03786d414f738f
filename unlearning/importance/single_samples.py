"""Gradients by which faster ways are judged: one sample at a time, in double precision."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..memory import ran_out
from ..models import differentiable
from .slow_gradients import Loss
from .working_model import gradients_of

Values = Mapping[str, Tensor]

TOLERANCE = 2e-3
LEAST_TELLING = 1e-4
"""Gradient of the loss by a logit: float32 keeps it to 6e-8."""
NO_INFLUENCE = 1e-9
"""Of the model's largest gradient: less than float32 can tell from 0."""


def weighted_gradients(
    model: nn.Module,
    parameters: Values,
    buffers: Values,
    loss: Loss,
    samples: tuple[Tensor, Tensor],
    draws: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits [n, classes] and sum_i draws[i] * (gradient of sample i) of every parameter.

    In float64, and in the dtype of the parameters where the model (or an MPS device) cannot do that.

    Args:
        model: in eval mode.
        parameters: detached, by name.
        buffers: likewise.
        loss: per sample.
        samples: x [n, ...], left as it is, and y [n].
        draws: [n].
    """
    given = next(iter(parameters.values())).dtype
    if given != torch.float64 and draws.device.type != "mps":
        try:
            return _in(torch.float64, model, parameters, buffers, loss, samples, draws)
        except Exception as error:  # whatever a model says of numbers that it did not expect
            if ran_out(error):
                raise
    return _in(given, model, parameters, buffers, loss, samples, draws)


def _in(
    dtype: torch.dtype,
    model: nn.Module,
    parameters: Values,
    buffers: Values,
    loss: Loss,
    samples: tuple[Tensor, Tensor],
    draws: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    constants = {name: _as(dtype, value) for name, value in buffers.items()}
    weights = {name: _as(dtype, value) for name, value in parameters.items()}
    sums = {name: torch.zeros_like(value) for name, value in weights.items()}
    rows = []
    for x, y, draw in zip(_as(dtype, samples[0]).split(1), samples[1].split(1), draws, strict=True):
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        with torch.enable_grad(), differentiable(model):
            logits = functional_call(model, {**constants, **leaves}, (x.clone(),))
            total = (loss(logits, y) * draw).sum()
        rows.append(logits.detach())
        if total.requires_grad:
            for name, gradient in gradients_of(total, leaves).items():
                sums[name] += gradient
    return torch.cat(rows), sums


def wrong_beyond_kinks(
    names: set[str],
    rows: Callable[[int], Mapping[str, Tensor | float]],
    model: nn.Module,
    parameters: Values,
    buffers: Values,
    loss: Loss,
    samples: tuple[Tensor, Tensor],
) -> set[str]:
    """Tell gradients that are wrong from those that a kink splits: a tie of a pooling, a ReLU at 0.

    There rounding decides between two right gradients, so that float32 and float64 may differ a lot, in a
    few samples. What differs in most samples is wrong, and so is what differs from plain autograd on that
    sample in the same precision.

    Args:
        names: parameters whose sums differ from those of `weighted_gradients`.
        rows: gives the gradients of a sample, by name.
        model: see `weighted_gradients`.
        parameters: likewise.
        buffers: likewise.
        loss: likewise.
        samples: likewise.

    Returns:
        The names that are wrong.
    """
    x, y = samples
    given = (next(iter(parameters.values())).dtype, model, parameters, buffers, loss)
    once, odd, wrong = torch.ones(1, device=y.device), Counter[str](), set[str]()
    for number in range(len(x)):
        one = (x[number : number + 1], y[number : number + 1])
        found = {name: row for name, row in rows(number).items() if name in names}
        _, doubles = weighted_gradients(*given[1:], one, once)
        new = unlike(found, doubles, largest(doubles))
        odd.update(new)
        if new:
            _, alike = _in(*given, one, once)
            wrong |= unlike({name: found[name] for name in new}, alike, largest(alike))
    return wrong | {name for name, count in odd.items() if 2 * count > len(x)}


def telling(loss: Loss, logits: Tensor, y: Tensor) -> Tensor:
    """Tell which samples have a gradient to compare with, bool [n]: of the others rounding is all there is.

    A cross-entropy of an image that the model is certain of has one of about 1e-8 there, of which float32
    keeps no digit.
    """
    leaf = logits.detach().requires_grad_()
    with torch.enable_grad():
        total = loss(leaf, y).sum()
    if not total.requires_grad:
        return torch.zeros(len(leaf), dtype=torch.bool, device=leaf.device)
    (outer,) = torch.autograd.grad(total, leaf)
    return outer.abs().amax(1) >= LEAST_TELLING


def largest(gradients: Values) -> float:
    """Find the largest size of any entry."""
    return max((float(value.abs().max()) for value in gradients.values() if value.numel()), default=0.0)


def _as(dtype: torch.dtype, value: Tensor) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def unlike(found: Mapping[str, Tensor | float], expected: Mapping[str, Tensor], scale: float) -> set[str]:
    """Name what differs by more than rounding."""
    return {name for name, total in found.items() if not _agrees(total, expected[name], scale)}


def same(a: Tensor, b: Tensor) -> bool:
    """Tell whether two tensors are the same up to rounding."""
    if a.shape != b.shape:
        return False
    return not b.numel() or bool((a - b).abs().max() <= TOLERANCE * b.abs().max())


def _agrees(found: Tensor | float, expected: Tensor, scale: float) -> bool:
    """Tell whether two agree within `TOLERANCE` of the largest entry, or the whole model's rounding.

    What a parameter without influence gets in float32 (a bias ahead of a softmax) is the rounding of sums of
    much larger terms.
    """
    most = float(expected.abs().max()) if expected.numel() else 1.0
    idle = expected.dtype == torch.float64 and most <= NO_INFLUENCE * scale
    largest = max(most, (1e-3 if idle else 1e-5) * scale)
    difference = (found - expected).abs() if isinstance(found, Tensor) else expected.abs()
    return not difference.numel() or float(difference.max()) <= TOLERANCE * largest
