"""Calls of layers: hooks note what goes into each, and the gradient that comes back to its output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from .layer_gradients import PREPARATIONS, TAPS, Rule, rule_for
from .per_sample import PerSample


@dataclass(eq=False)
class LayerCall:
    """One call of a layer: what went in, and (after the backward pass) what came back."""

    path: str
    rule: Rule
    module: nn.Module
    x: Tensor
    version: int
    g: Tensor | None = None

    def came_back(self, g: Tensor) -> None:
        self.g = g.detach() if self.g is None else self.g + g.detach()

    def gradients(self, count: int) -> dict[str, PerSample]:
        """Return the gradients by local name; rows that a model spread over dimension 0 come together.

        Raises:
            ValueError: the rows cannot be told apart, or the input was overwritten.
        """
        if self.g is None:
            return {}
        if self.x._version != self.version:
            raise ValueError("its input is overwritten later")
        if len(self.x) % count or len(self.g) % count:
            raise ValueError("its rows are not those of the samples")
        if len(self.x) == count:
            return self.rule(self.module, self.x, self.g)
        if not isinstance(self.module, nn.Linear | nn.LayerNorm):
            raise ValueError("it is called on parts of the samples")
        return self.rule(self.module, self.x.unflatten(0, (count, -1)), self.g.unflatten(0, (count, -1)))


def watch(path: str, layer: nn.Module, calls: list[LayerCall]) -> list[RemovableHandle]:
    """Set hooks that note the calls of a layer."""
    rule = rule_for(layer)
    if rule is None:
        return []
    note = _recorder(path, rule, layer, calls)
    if rule not in TAPS:
        return [layer.register_forward_hook(lambda _, inputs, output: note(inputs, output))]
    entered: list[tuple[Any, ...]] = []

    def enter(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        entered[:] = [inputs]

    def leave(_: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        return note(entered.pop(), output) if entered else None

    return [layer.register_forward_pre_hook(enter), TAPS[rule](layer).register_forward_hook(leave)]


def _recorder(path: str, rule: Rule, layer: nn.Module, calls: list[LayerCall]) -> Callable[..., Any]:
    """Return a hook that notes a call; the outputs of the first layers become the beginning of the graph."""

    def note(inputs: tuple[Any, ...], output: Any) -> Any:
        if len(inputs) != 1 or not isinstance(output, Tensor) or not torch.is_grad_enabled():
            return None
        if not output.requires_grad:
            output = output.detach().requires_grad_().clone()  # no leaf: operations in place are allowed
        x = inputs[0].detach()
        if rule in PREPARATIONS:
            x = PREPARATIONS[rule](layer, x)
        elif x.is_floating_point() and output.dtype.itemsize < x.dtype.itemsize:
            x = x.to(output.dtype)  # as autocast did, for products of one dtype
        call = LayerCall(path, rule, layer, x, x._version)
        output.register_hook(call.came_back)
        calls.append(call)
        return output

    return note
