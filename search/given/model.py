"""The model that a user gives: a checked copy to work on, and what is made of it in the end."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from ...errors import BadInput
from ...unlearning.inference import evaluating, first_line
from .kept_tensors import kept_by, tensors_of
from .reading import said

logger = logging.getLogger(__name__)

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel)
_COMPILED = "_orig_mod"
"""What `torch.compile` calls the module that it wraps."""


def plain_module(model: Any, name: str = "model") -> nn.Module:
    """Return the module itself, without DataParallel and `torch.compile` around it.

    Raises:
        BadInput: it is no module, such as a path or a state dict.
    """
    if isinstance(model, str | Path):
        raise BadInput(
            f"{name}: {str(model)!r} is a path, and what architecture it holds is not known; give "
            f"the module, with its weights put in by load_weights and load_into of theriac.unlearning.models"
        )
    if isinstance(model, Mapping):
        raise BadInput(
            f"{name}: {type(model).__name__} is a state dict and no module; load it into the module "
            f"(load_state_dict) and give that"
        )
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise BadInput(f"{name}: {kind} is no nn.Module; give the module that returns logits")
    while (inner := _inside(model)) is not None:
        model = inner
    plain: nn.Module = model
    return plain


def _inside(model: nn.Module) -> nn.Module | None:
    if isinstance(model, _WRAPPERS):
        wrapped: nn.Module = model.module
        return wrapped
    return dict(model.named_children()).get(_COMPILED)


def working_copy(model: Any, name: str = "model") -> nn.Module:
    """Copy the model in float32 or better, its weights checked.

    Args:
        model: the module, perhaps wrapped; see `plain_module`.
        name: what it is called in error messages.

    Raises:
        BadInput: a model that cannot be copied, put in eval mode or healed: scripted, quantised or lazy, or
            with weights that are not finite, not real or not there.
    """
    plain = plain_module(model, name)
    _refuse_modules(plain, name)
    for label, tensor in (*plain.named_parameters(), *plain.named_buffers()):
        _refuse_tensor(label, tensor, name)
    _check_storable(plain, name)
    victim = _copied(plain, name)
    try:
        with evaluating(victim):
            pass
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{name}: it cannot be put in eval mode ({said(error)}); give one that can") from error
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in victim.parameters())
    return victim.float() if half else victim


def _refuse_modules(model: nn.Module, name: str) -> None:
    for path, module in model.named_modules():
        where = f"{name}: {'it' if not path else f'its {path!r}'} is a {type(module).__name__}"
        if isinstance(module, torch.jit.ScriptModule):
            raise BadInput(
                f"{where}, which cannot be called with other weights; give the module that was scripted or "
                f"traced"
            )
        if ".quantized" in type(module).__module__:
            raise BadInput(f"{where}, and quantised layers have no gradients; give it as it was before")


def _refuse_tensor(label: str, tensor: Tensor, name: str) -> None:
    where = f"the {name}'s {label!r}"
    if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
        raise BadInput(f"{where} has no values yet; run the model on one batch first")
    if tensor.is_meta:
        raise BadInput(f"{where} is on the device meta, which holds no values; load the weights first")
    if tensor.is_complex() or tensor.layout != torch.strided:
        kind = tensor.dtype if tensor.is_complex() else tensor.layout
        raise BadInput(f"{where} is {kind}; give a model of dense real weights")
    if isinstance(tensor, nn.Parameter) and not tensor.is_floating_point():
        raise BadInput(
            f"{where} is {tensor.dtype}: a quantised model has no gradients; give it as it was before"
        )
    if tensor.is_floating_point() and not torch.isfinite(tensor.detach()).all():
        raise BadInput(f"{where} holds NaN or infinite values; give weights from before they diverged")


def _copied(model: nn.Module, name: str = "model") -> nn.Module:
    """Copy the model, compiled modules inside it replaced by what they wrap."""
    # what a pass left there (features, weights under weight_norm or pruning), which deepcopy refuses
    kept = [tensor for value in kept_by(model).values() for tensor in tensors_of(value)]
    computed = {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf}
    try:
        copied: nn.Module = copy.deepcopy(model, computed)
        if kept:
            _emptied(copied)
    except Exception as error:
        raise BadInput(f"the {name} cannot be copied ({first_line(error)}); give one that can be") from error
    for module in list(copied.modules()):
        for label, child in module._modules.items():
            if child is not None and _COMPILED in child._modules:
                module._modules[label] = child._modules[_COMPILED]
    return copied


def _emptied(model: nn.Module) -> None:
    """Let modules drop what they remember of their weights, as those do in training mode that know how."""
    modes = {module: module.training for module in model.modules()}
    for mode in (True, False):
        model.train(mode)
    for module, training in modes.items():
        module.training = training


def device_of(model: nn.Module) -> torch.device:
    """Return the one device that all parameters lie on."""
    devices = {p.device for p in model.parameters()}
    if len(devices) != 1:
        raise BadInput(
            f"the model's parameters lie on {sorted(map(str, devices)) or 'no device'}; put all on one"
        )
    return devices.pop()


@torch.no_grad()
def with_weights(model: nn.Module, source: nn.Module) -> nn.Module:
    """Copy the plain ``model`` (dtype, mode, hooks), with the weights and statistics of ``source``.

    Args:
        model: as it was given, perhaps compiled or wrapped.
        source: a working copy of it.
    """
    healed = _copied(plain_module(model))
    for named, own in (
        (source.named_parameters, healed.named_parameters),
        (source.named_buffers, healed.named_buffers),
    ):
        tensors: dict[str, Tensor] = dict(named())
        for name, tensor in own():
            new = tensors[name].to(tensor)
            if not torch.equal(tensor, new):  # an expanded buffer, which stays as it is, cannot be written
                tensor.copy_(new)
    return healed


def save_weights(model: nn.Module, path: Path) -> dict[str, Any]:
    """Write all tensors of the state dict to a safetensors file; return what else is in it, as JSON has it.

    Names that share a tensor are written once, under the first of them; the metadata tell the others.

    Args:
        model: whose weights are written.
        path: of the safetensors file.
    """
    tensors, extra = _parted(model.state_dict())
    kept: dict[tuple[Any, ...], str] = {}
    shared: dict[str, str] = {}
    for name in sorted(tensors):
        one = tensors[name]
        key = (one.data_ptr(), one.shape, one.stride(), one.dtype) if one.numel() else (name,)
        if kept.setdefault(key, name) != name:
            shared[name] = kept[key]
    written = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
        if name not in shared
    }
    save_file(written, str(path), metadata=shared or None)
    return {name: value for name, value in extra.items() if _is_json(value)}


def _check_storable(model: nn.Module, name: str) -> None:
    """Say before any work what `save_weights` will not be able to write."""
    try:
        _, extra = _parted(model.state_dict())
    except Exception as error:
        raise BadInput(
            f"{name}: its state_dict() fails ({said(error)}), so that what is healed could not be saved; "
            f"correct it"
        ) from error
    lost = sorted(key for key, value in extra.items() if not _is_json(value))
    if lost:
        logger.warning(
            "%s: save() will leave out %s, a %s; it stores tensors, and what JSON can hold",
            name,
            lost[0],
            type(extra[lost[0]]).__name__,
        )


def _parted(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Part a state into tensors and what get_extra_state() of modules adds to them."""
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    return tensors, {name: value for name, value in state.items() if name not in tensors}


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
