"""Tensors that modules keep besides parameters and buffers: results of a pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

Kept = dict[tuple[str, str], Any]
"""Module and attribute -> a tensor, or a list or dict as it was."""

_OWN = frozenset(vars(nn.Module()))


def kept_by(model: nn.Module) -> Kept:
    """Return what all modules keep: tensors, and copies of their lists and dicts."""
    return {
        (path, name): value if isinstance(value, Tensor) else value.copy()
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) or (type(value) in (list, dict) and name not in _OWN)
    }


def left_behind(before: Kept, after: Kept) -> bool:
    """Tell whether a pass in between has left tensors in the modules."""
    return any(
        {id(one) for one in tensors_of(value)} - {id(one) for one in tensors_of(before.get(place))}
        for place, value in after.items()
    )


def give_up(model: nn.Module, before: Kept) -> None:
    """Put back what the modules kept ``before``; what is new becomes None, or empty."""
    modules = dict(model.named_modules())
    for (path, name), value in kept_by(model).items():
        if tensors_of(value):
            old = before.get((path, name))
            empty = None if isinstance(value, Tensor) else type(value)()
            modules[path].__dict__[name] = (
                empty if old is None else old if isinstance(old, Tensor) else old.copy()
            )


def tensors_of(value: Any) -> list[Tensor]:
    """Return the tensors that an attribute holds, one level deep."""
    return list(_tensors(value))


def _tensors(value: Any) -> Iterator[Tensor]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return (one for one in inner if isinstance(one, Tensor))
