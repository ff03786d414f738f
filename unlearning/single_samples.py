"""Gradients by which faster ways are judged: one sample at a time, in double precision."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from .chunks import ran_out
from .slow_gradients import Loss
from .sound_batch_norm import sound_batch_norm
from .working_model import gradients_of

Values = Mapping[str, Tensor]


def weighted_gradients(
    model: nn.Module,
    parameters: Values,
    buffers: Values,
    loss: Loss,
    samples: tuple[Tensor, Tensor],
    draws: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits [n, classes] and sum_i draws[i] * (gradient of sample i) of every parameter.

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
        with torch.enable_grad(), sound_batch_norm(model):
            logits = functional_call(model, {**constants, **leaves}, (x.clone(),))
            total = (loss(logits, y) * draw).sum()
        rows.append(logits.detach())
        if total.requires_grad:
            for name, gradient in gradients_of(total, leaves).items():
                sums[name] += gradient
    return torch.cat(rows), sums


def _as(dtype: torch.dtype, value: Tensor) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
