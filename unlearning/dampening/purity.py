"""Finds the calls of submodules that depend on nothing but what they are given and their own weights."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ..inference import evaluating, first_line

Forward = Callable[..., Any]

CONSTANTS = (type(None), bool, int, float, str)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """A pure call of a submodule: the same inputs and weights give the same output, and nothing else happens.

    Attributes:
        name: of the submodule; the model's own is empty.
        inputs: the tensors it was given.
        output: what it returned.
        changed: whether the output was written to after the call.
    """

    name: str
    inputs: tuple[Tensor, ...]
    output: Tensor
    changed: bool


def pure_calls(model: nn.Module, sample: Tensor) -> list[Call]:
    """Watch one forward pass in eval mode; return its pure calls in the order they began.

    A call is pure if it is given tensors and constants only and returns one tensor; if every tensor that it
    reads is given to it, made by it, or a parameter or buffer of its own or of a submodule; if it draws no
    random numbers, and writes neither to what it is given nor to its state. Modules with hooks, scripted and
    compiled ones, and those whose ``forward`` was replaced count as impure, and so do all around them; so
    does what is called more than once. No call is pure in a model that uses the random numbers of Python or
    NumPy, or that cannot be run on a single sample.

    Out of sight: state outside the modules' attributes, and what data other than ``sample`` would bring
    about.

    Args:
        model: its parameters and buffers stay the same, unless its forward pass changes them.
        sample: [1, ...], in the dtype and on the device that the model takes.
    """
    before = _other_random_states()
    watch = _Watch(model)
    try:
        with torch.no_grad(), evaluating(model), replaced(watch.forwards()), watch:
            model(sample)
    except Exception as error:
        logger.debug("the model cannot be watched on one sample: %s", first_line(error))
        return []
    return watch.calls() if _other_random_states() == before else []


@contextmanager
def replaced(forwards: Mapping[nn.Module, Forward]) -> Iterator[None]:
    """Put other ``forward`` methods in place inside the block, for modules that have their class's."""
    try:
        for module, forward in forwards.items():
            vars(module)["forward"] = forward
        yield
    finally:
        for module in forwards:
            vars(module).pop("forward", None)


def comparable(value: object) -> bool:
    """Tell whether an argument can be compared with that of another call: a constant, or a plain tensor."""
    if isinstance(value, CONSTANTS):
        return True
    return type(value) is Tensor and value.layout is torch.strided and not value.is_inference()


def storage_of(tensor: Tensor) -> int:
    """Return the number by which tensors that look into the same memory are told."""
    return tensor.untyped_storage().data_ptr()


def tensors_in(values: object) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and dicts."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from tensors_in(value)


@dataclass(kw_only=True, eq=False)
class _Frame:
    """A call as it is watched.

    Attributes:
        name, inputs, output: as in `Call`.
        module: that was called.
        known: ids of the tensors it may read.
        untouchable: storages that it must not write to.
        pure: whether nothing spoke against it so far.
        changed: whether the output was written to after the call.
    """

    name: str
    module: nn.Module
    inputs: tuple[Tensor, ...]
    known: set[int]
    untouchable: set[int]
    pure: bool
    output: Tensor | None = None
    changed: bool = False


class _Watch(TorchDispatchMode):
    """Sees every operation of a forward pass, and the calls of submodules it belongs to."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._running: list[_Frame] = []
        self._begun: list[_Frame] = []
        self._alive: list[Tensor] = []  # so that an id means one tensor
        self._opaque = {module for module in model.modules() if _opaque(module)}
        self._states = {module: _state(module) for module in model.modules()}

    def forwards(self) -> dict[nn.Module, Forward]:
        """Return what to call instead of the modules' own forward methods."""
        found = {}
        for name, module in self._model.named_modules():
            if not isinstance(module, torch.jit.ScriptModule) and "forward" not in vars(module):
                found[module] = self._watched(name, module, module.forward)
        return found

    def calls(self) -> list[Call]:
        """Return the pure calls."""
        names = [frame.name for frame in self._begun]
        impure = self._opaque | {m for m, state in self._states.items() if not _same_state(state, _state(m))}
        return [
            Call(
                name=frame.name,
                inputs=frame.inputs,
                output=frame.output,
                changed=frame.changed,
            )
            for frame in self._begun
            if frame.pure and frame.output is not None and names.count(frame.name) == 1
            if impure.isdisjoint(frame.module.modules())
        ]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        seeded = torch.Tag.nondeterministic_seeded in func.tags
        before = _random_states(self._model) if seeded else []
        result = func(*args, **(kwargs or {}))
        read, made = [*tensors_in([args, kwargs])], [*tensors_in(result)]
        own_generator = any(isinstance(arg, torch.Generator) for arg in (*args, *(kwargs or {}).values()))
        random_numbers = seeded and (own_generator or not _same(before, _random_states(self._model)))
        self._alive += read + made
        for storage in _written(func, args, kwargs or {}):
            self._note_writing(storage)
        for frame in self._running:
            if random_numbers or any(id(tensor) not in frame.known for tensor in read):
                frame.pure = False
            frame.known.update(id(tensor) for tensor in made)
        return result

    def _note_writing(self, storage: int) -> None:
        for frame in self._begun:
            running = frame in self._running
            if running and storage in frame.untouchable:
                frame.pure = False
            if not running and frame.output is not None and storage == storage_of(frame.output):
                frame.changed = True

    def _watched(self, name: str, module: nn.Module, inner: Forward) -> Forward:
        own = [*module.parameters(), *module.buffers()]

        def forward(*args: Any, **kwargs: Any) -> Any:
            inputs = tuple(tensors_in([args, kwargs]))
            watched = [*own, *inputs]
            frame = _Frame(
                name=name,
                module=module,
                inputs=inputs,
                known={id(tensor) for tensor in watched},
                untouchable={storage_of(tensor) for tensor in watched if tensor.layout is torch.strided},
                pure=all(comparable(value) for value in (*args, *kwargs.values())),
            )
            self._begun.append(frame)
            self._running.append(frame)
            output = inner(*args, **kwargs)
            self._running.pop()
            self._alive += [*inputs, *tensors_in(output)]
            if isinstance(output, Tensor) and comparable(output) and id(output) in frame.known:
                frame.output = output
            return output

        return forward


def _opaque(module: nn.Module) -> bool:
    hooks = [module._forward_hooks, module._forward_pre_hooks]
    return any(hooks) or "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule)


def _state(module: nn.Module) -> dict[str, list[object]]:
    """Return the attributes, and what is in those that are collections."""
    return {name: [value, *_contents(value)] for name, value in vars(module).items() if name != "forward"}


def _contents(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list | tuple | set) else ()


def _same_state(before: dict[str, list[object]], after: dict[str, list[object]]) -> bool:
    return before.keys() == after.keys() and all(
        len(value) == len(after[name]) and all(a is b for a, b in zip(value, after[name], strict=True))
        for name, value in before.items()
    )


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> set[int]:
    """Find the storages that an operation writes to, also through tensors with a version of their own."""
    if not func._schema.is_mutable:
        return set()
    wanted = [argument for argument in func._schema.arguments if argument.is_write]
    positions = {argument.name: place for place, argument in enumerate(func._schema.arguments)}
    values = [*(args[p] for a in wanted if (p := positions[a.name]) < len(args))]
    values += [kwargs[argument.name] for argument in wanted if argument.name in kwargs]
    return {storage_of(tensor) for tensor in tensors_in(values)}


def _random_states(model: nn.Module) -> list[Tensor]:
    """Return the states of torch's global generators.

    Attention is marked as random even where it drops nothing.
    """
    devices = {parameter.device for parameter in model.parameters()}
    states = [torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"]
    return [torch.get_rng_state(), *states]


def _same(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def _other_random_states() -> list[object]:
    """Return the states of Python's and of NumPy's global generator."""
    name, keys, *rest = np.random.get_state()
    return [random.getstate(), name, np.asarray(keys).tolist(), *rest]
