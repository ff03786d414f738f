"""Finds the layers that make the feature maps of a model, by watching one forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...errors import BadInput
from ..inference import evaluating


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerCall:
    """A call of a module that took one tensor and returned one.

    Attributes:
        name: of the module in the model.
        module: it.
        input, output: what went in and came out.
        read, written: how often these tensors had been written to in place at the time.
    """

    name: str
    module: nn.Module
    input: Tensor
    output: Tensor
    read: int
    written: int

    @property
    def makes_maps(self) -> bool:
        """Tell whether [N, C, H, W] came out."""
        return self.output.ndim == 4


@torch.no_grad()
def layer_calls(model: nn.Module, x: Tensor) -> list[LayerCall]:
    """List the calls of all modules but the model itself, in the order in which they ended, in eval mode.

    A module that is called more than once is left out, as its name says not which call is meant.
    """
    calls: list[LayerCall] = []
    with evaluating(model), _watched(model, calls):
        model(x)
    times: dict[str, int] = {}
    for call in calls:
        times[call.name] = times.get(call.name, 0) + 1
    return [call for call in calls if times[call.name] == 1]


@contextmanager
def _watched(model: nn.Module, calls: list[LayerCall]) -> Iterator[None]:
    handles = []
    for name, module in model.named_modules():
        if name:
            watch = _Watch(name, calls)
            handles += [
                module.register_forward_pre_hook(watch.before),
                module.register_forward_hook(watch.after),
            ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Watch:
    def __init__(self, name: str, calls: list[LayerCall]) -> None:
        self._name, self._calls = name, calls
        self._read = 0

    def before(self, module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if len(arguments) == 1 and isinstance(arguments[0], Tensor):
            self._read = arguments[0]._version

    def after(self, module: nn.Module, arguments: tuple[Any, ...], output: object) -> None:
        if len(arguments) == 1 and isinstance(arguments[0], Tensor) and isinstance(output, Tensor):
            call = LayerCall(
                name=self._name,
                module=module,
                input=arguments[0],
                output=output,
                read=self._read,
                written=output._version,
            )
            self._calls.append(call)


def last_map_of_each_size(model: nn.Module, x: Tensor) -> list[str]:
    """Name the modules whose outputs are the last of their height and width, largest first.

    Blocks that hold a convolution come before single layers, so that it is the output of a residual block, or
    of a stage, rather than a layer inside the next block. Only sizes at which a convolution works count:
    pooled maps behind the last one are none of its own.

    Args:
        model: left as it is.
        x: one image or more, as the model takes them.

    Raises:
        BadInput: the model has no convolutions.
    """
    calls = [call for call in layer_calls(model, x) if call.makes_maps]
    worked_on = {call.output.shape[2:] for call in calls if isinstance(call.module, nn.Conv2d)}
    calls.sort(key=lambda call: _holds_convolution(call.module))  # stable: blocks last, and so they win
    last = {call.output.shape[2:]: call.name for call in calls if call.output.shape[2:] in worked_on}
    if not last:
        raise BadInput(f"{_NO_CONVOLUTIONS.format(type(model).__name__)}; name the layers to compare")
    return [last[size] for size in sorted(last, key=lambda size: -size.numel())]


def _holds_convolution(module: nn.Module) -> bool:
    return any(isinstance(inner, nn.Conv2d) for inner in module.modules() if inner is not module)


@dataclass(frozen=True, kw_only=True, eq=False)
class Convolution:
    """A convolution and what reads its output at once.

    Attributes:
        name: of the convolution in the model.
        convolution: it.
        norm: the BatchNorm that alone reads its output, if there is one.
        place: the last of convolution, BatchNorm and activation module: its output is what the rest of the
            model sees.
    """

    name: str
    convolution: nn.Conv2d
    norm: _BatchNorm | None
    place: nn.Module


def last_convolution(model: nn.Module, x: Tensor, name: str | None = None) -> Convolution:
    """Find the convolution that is called last, or the one of this name.

    Args:
        model: left as it is.
        x: one image or more, as the model takes them.
        name: of a convolution in ``model``.

    Raises:
        BadInput: there is no convolution, or none of this name; names those that exist.
    """
    calls = layer_calls(model, x)
    found = {call.name: call for call in calls if isinstance(call.module, nn.Conv2d)}
    if not found:
        raise BadInput(f"{_NO_CONVOLUTIONS.format(type(model).__name__)}; choose another method")
    if name is not None and name not in found:
        raise BadInput(f"layer {name!r} is no convolution that is called once; choose {', '.join(found)}")
    call = found[name or list(found)[-1]]
    reader = _only_reader(call, calls)
    norm = reader if reader and isinstance(reader.module, _BatchNorm) else None
    after = _only_reader(norm, calls) if norm else reader
    acts = after if after and type(after.module).__module__ == nn.ReLU.__module__ else None
    assert isinstance(call.module, nn.Conv2d)
    return Convolution(
        name=call.name,
        convolution=call.module,
        norm=norm.module if norm and isinstance(norm.module, _BatchNorm) else None,
        place=(acts or norm or call).module,
    )


def _only_reader(call: LayerCall, calls: list[LayerCall]) -> LayerCall | None:
    readers = [
        other
        for other in calls
        if other.input is call.output
        and other.read == call.written
        and (isinstance(other.module, _BatchNorm) or not any(other.module.children()))
    ]
    return readers[0] if len(readers) == 1 else None


@contextmanager
def collecting(model: nn.Module, names: list[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the latest output of each of these modules inside the block, by name.

    Raises:
        BadInput: no module of this name.
    """
    modules = dict(model.named_modules())
    for name in names:
        if name not in modules or not name:
            raise BadInput(f"layer {name!r}: no such module; choose {', '.join(n for n in modules if n)}")
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        outputs[name] = output

    handles = [
        modules[name].register_forward_hook(lambda _, __, output, name=name: keep(name, output))
        for name in names
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


_NO_CONVOLUTIONS = "{} calls no nn.Conv2d that makes maps of its own"
