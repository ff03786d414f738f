"""Models that do something odd, for `heal_arguments`."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from theriac.tests.poisoned import poisoned_digits


class Odd(nn.Module):
    """The net in a model that does something odd."""

    def __init__(self, after: Callable[[Tensor], Any], before: Callable[[Tensor], Any] = lambda x: x) -> None:
        super().__init__()
        self.net, self._after, self._before = copy.deepcopy(poisoned_digits().model), after, before

    def forward(self, x: Tensor) -> Any:
        return self._after(self.net(self._before(x)))


def _raises(_: object) -> Any:
    raise ZeroDivisionError("a defect\nof the \x1b[2J model")


def models() -> dict[str, tuple[str, Callable[[nn.Module], Any]]]:
    """What a model may be: whether it must be refused, and how it is made of a good one."""
    return {
        "softmax": ("either", lambda net: Odd(lambda z: z.softmax(1))),
        "log_softmax": ("either", lambda net: Odd(lambda z: z.log_softmax(1))),
        "tuple": ("refuse", lambda net: Odd(lambda z: (z, z))),
        "mapping": ("either", lambda net: Odd(lambda z: {"logits": z})),
        "None": ("refuse", lambda net: Odd(lambda z: None)),
        "one logit": ("refuse", lambda net: Odd(lambda z: z[:, :1])),
        "flat logits": ("refuse", lambda net: Odd(lambda z: z.flatten())),
        "argmax": ("refuse", lambda net: Odd(lambda z: z.argmax(1))),
        "NaN": ("refuse", lambda net: Odd(lambda z: z * float("nan"))),
        "detached": ("refuse", lambda net: Odd(lambda z: z.detach())),
        "half logits": ("either", lambda net: Odd(lambda z: z.half())),
        "raising": ("refuse", lambda net: Odd(_raises)),
        "random": ("either", lambda net: Odd(lambda z: z + torch.rand_like(z))),
        "writing into its input": ("either", lambda net: Odd(lambda z: z, lambda x: x.mul_(2.0))),
        "constant": ("either", lambda net: Odd(lambda z: z * 0)),
        "first image only": ("refuse", lambda net: Odd(lambda z: z[:1])),
        "float64": ("either", lambda net: net.double()),
        "bfloat16": ("either", lambda net: net.bfloat16()),
        "frozen": ("either", lambda net: net.requires_grad_(False)),
        "training": ("either", lambda net: net.train()),
        "on meta": ("refuse", lambda net: net.to("meta")),
        "lazy": ("refuse", lambda net: nn.Sequential(nn.Flatten(), nn.LazyLinear(10))),
        "traced": ("either", lambda net: torch.jit.trace(net, torch.zeros(2, 1, 8, 8))),
        "compiled": ("either", lambda net: torch.compile(net, backend="eager")),
        "DataParallel": ("either", lambda net: nn.DataParallel(net)),
        "in inference mode": ("either", _inferred),
        "weight_norm": ("either", _normed),
        "no parameters": ("refuse", lambda net: nn.Sequential(nn.Flatten(), nn.Softmax(1))),
        "integers": ("refuse", _integers),
        "NaN weights": ("refuse", _not_finite),
        "a state dict": ("refuse", lambda net: net.state_dict()),
        "a path": ("refuse", lambda net: "model.pt"),
        "a class": ("refuse", lambda net: nn.Linear),
        "a function": ("refuse", lambda net: net.forward),
        "a partial": ("refuse", lambda net: functools.partial(net)),
        "tied": ("either", lambda net: nn.Sequential(net, nn.Linear(10, 10), nn.Identity()).eval()),
        "hooked": ("either", _hooked),
    }


def _inferred(net: nn.Module) -> nn.Module:
    with torch.inference_mode():
        return copy.deepcopy(net)


def _normed(net: nn.Module) -> nn.Module:
    torch.nn.utils.parametrizations.weight_norm(net[1])  # type: ignore[index]
    return net


def _integers(net: nn.Module) -> nn.Module:
    for parameter in net.parameters():
        parameter.requires_grad_(False)
        parameter.data = parameter.data.long()
    return net


def _not_finite(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        next(net.parameters()).view(-1)[3] = float("nan")
    return net


def _hooked(net: nn.Module) -> nn.Module:
    net.register_forward_hook(lambda module, given, result: result + 1)
    return net
