"""The model that a user gives: a checked copy to work on, and what is made of it in the end."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ..errors import BadInput


def working_copy(model: nn.Module) -> nn.Module:
    """A copy in float32 or better, whose weights are checked."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadInput(
                f"the model's {name!r} holds NaN or infinite values; give weights from before they diverged"
            )
    try:
        victim = copy.deepcopy(model)
    except Exception as error:
        raise BadInput(f"the model cannot be copied ({error}); give one that can be") from error
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in victim.parameters())
    return victim.float() if half else victim


def device_of(model: nn.Module) -> torch.device:
    """The one device that all parameters lie on."""
    devices = {p.device for p in model.parameters()}
    if len(devices) != 1:
        raise BadInput(
            f"the model's parameters lie on {sorted(map(str, devices)) or 'no device'}; put all on one"
        )
    return devices.pop()


@torch.no_grad()
def with_weights(model: nn.Module, source: nn.Module) -> nn.Module:
    """A copy of ``model`` (dtype, mode, hooks) with the weights and statistics of ``source``."""
    healed = copy.deepcopy(model)
    for named, own in (
        (source.named_parameters, healed.named_parameters),
        (source.named_buffers, healed.named_buffers),
    ):
        tensors: dict[str, Tensor] = dict(named())
        for name, tensor in own():
            tensor.copy_(tensors[name])
    return healed
