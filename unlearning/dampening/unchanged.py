"""Forward passes that leave out what cannot have changed since the last one over the same images.

Between two steps of a search a few weights change. A submodule that is given what it was given the last time,
and of whose weights none has changed since, returns what it returned then; so that output is remembered and
returned without any work. It is the very same tensor, by which the next submodule knows its input again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .purity import Call, Forward, comparable, pure_calls, replaced, storage_of, tensors_in

Stamp = tuple[int, int]

ENOUGH = 6
"""Submodules with a matrix or a kernel, told apart: in trials more of them took memory and saved no time."""

logger = logging.getLogger(__name__)


class Unchanged:
    """The outputs of a model's submodules, remembered from one forward pass to the next.

    Only for eval mode under ``torch.no_grad()``. Every output is bit for bit what the forward pass gives.

    What is remembered: outputs of submodules that `pure_calls` finds to depend on nothing but their inputs
    and weights; on so many levels of nesting that at least `ENOUGH` of them hold a matrix or a kernel, on
    fewer if ``budget`` does not allow them. An input is known again if it is the same tensor object, not
    written to since. Where it comes from an operation outside of any submodule (a sum, a concatenation), and
    the submodule holds a matrix or a kernel, it is compared bit by bit with the last one, which is then kept
    as well. A submodule whose output is written to in place later is never remembered.

    Args:
        model: only called while nothing but `recalling` changes its ``forward`` methods; a copy of its own is
            best.
        sample: [1, ...], one of the images, in the dtype and on the device that the model takes.
        count: how many samples all pieces hold together.
        budget: bytes that may be held, as far as can be told from the one sample.
    """

    def __init__(self, model: nn.Module, sample: Tensor, *, count: int, budget: int) -> None:
        self._modules = dict(model.named_modules())
        self._device = sample.device.type
        weights = [*model.parameters(), *model.buffers()]
        self._storages = {storage_of(weight) for weight in weights}
        self._compared: dict[str, bool] = {}
        if not torch.is_inference_mode_enabled() and not any(weight.is_inference() for weight in weights):
            sample = sample.clone()  # its bytes are counted, not those of the batch it is from
            calls = [c for c in pure_calls(model, sample) if self._apart(*c.inputs, c.output)]
            self._compared = _planned(calls, self._modules, sample, budget // max(1, count))
        self._parts = {name: _Part.of(self._modules[name], model) for name in self._compared}
        self._stamps: dict[str, Stamp] = {}
        self._memories: dict[tuple[int, str], _Memory] = {}

    @property
    def names(self) -> frozenset[str]:
        """Return the submodules whose outputs are remembered."""
        return frozenset(self._compared)

    @property
    def tensors(self) -> list[Tensor]:
        """Return all tensors that are remembered, inputs included."""
        return [tensor for memory in self._memories.values() for tensor in memory.tensors]

    @property
    def held_bytes(self) -> int:
        """Count the bytes of all tensors that are remembered."""
        return bytes_of(self.tensors)

    def forget(self) -> None:
        """Hold nothing any more; passes that follow are remembered again."""
        self._memories.clear()

    @contextmanager
    def recalling(self, piece: int, changed: Mapping[str, int]) -> Iterator[None]:
        """Let forward passes inside the block leave out what they can; afterwards the model is as it was.

        Args:
            piece: which images the model is going to be given, as a number; outputs are remembered for each
                apart.
            changed: parameter name -> a number that has grown whenever the parameter may have changed. (Those
                that share their storage with other tensors can change without a trace of their own.)
        """
        if torch.is_autocast_enabled(self._device) or torch.is_inference_mode_enabled():
            yield  # other outputs for the same weights; tensors without versions
            return
        self._stamps = {name: part.stamp(changed) for name, part in self._parts.items()}
        with replaced({self._modules[name]: self._recalling(piece, name) for name in self._parts}):
            yield
        for key in [key for key, memory in self._memories.items() if not memory.intact]:
            del self._memories[key]

    def _recalling(self, piece: int, name: str) -> Forward:
        inner, key, compared = self._modules[name].forward, (piece, name), self._compared[name]

        def forward(*args: Any, **kwargs: Any) -> Any:
            given = _Given(args=args, kwargs=kwargs)
            memory = self._memories.pop(key, None)  # what is out of date is not kept during the new pass
            if memory is None or not memory.knows(given, compared=compared):
                del memory
                return self._run(key, inner, given)
            if memory.intact and memory.stamp == self._stamps[name]:
                self._memories[key] = memory
                return memory.output
            last = memory.given
            del memory
            return self._run_on_last(key, inner, given, last)

        return forward

    def _run_on_last(self, key: tuple[int, str], inner: Forward, given: _Given, last: _Given) -> Any:
        """Run on the remembered input, so that submodules know it again, else on the given one."""
        output = self._run(key, inner, last)
        if last.same_as(given) or (last.intact and not last.shares_storage(output)):
            return output
        self._memories.pop(key, None)
        return self._run(key, inner, given)

    def _run(self, key: tuple[int, str], inner: Forward, given: _Given) -> Any:
        output = inner(*given.args, **given.kwargs)
        if comparable(output) and isinstance(output, Tensor) and given.intact:
            looks_into = self._compared[key[1]] and given.shares_storage(output)
            if not looks_into and self._apart(*given.tensors, output):
                self._memories[key] = _Memory(given=given, output=output, stamp=self._stamps[key[1]])
        return output

    def _apart(self, *tensors: Tensor) -> bool:
        """Tell whether no tensor is a view of a weight, which can change without a trace of its own."""
        return self._storages.isdisjoint(storage_of(tensor) for tensor in tensors)


class _Given:
    """The arguments of a call, and which versions of the tensors they were."""

    def __init__(self, *, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args, self.kwargs = args, kwargs
        self.tensors = [*tensors_in([args, kwargs])]
        self._comparable = all(comparable(value) for value in (*args, *kwargs.values()))
        self._versions = [tensor._version for tensor in self.tensors] if self._comparable else []

    @property
    def intact(self) -> bool:
        """Tell whether the call can be compared with others, and no tensor was written to since."""
        return self._comparable and all(
            tensor._version == version for tensor, version in zip(self.tensors, self._versions, strict=True)
        )

    def same_as(self, other: _Given) -> bool:
        """Tell whether both have the same tensor objects, and equal constants."""
        return self._matches(other, lambda one, two: one is two)

    def equals(self, other: _Given) -> bool:
        """Tell whether both have tensors of the same bits and layout, and equal constants."""
        return self._matches(other, _same_bits)

    def shares_storage(self, output: object) -> bool:
        """Tell whether ``output`` is, or looks into, one of the tensors."""
        return isinstance(output, Tensor) and storage_of(output) in {storage_of(t) for t in self.tensors}

    def _matches(self, other: _Given, alike: Any) -> bool:
        if len(self.args) != len(other.args) or [*self.kwargs] != [*other.kwargs] or not other.intact:
            return False
        pairs = zip([*self.args, *self.kwargs.values()], [*other.args, *other.kwargs.values()], strict=True)
        return all(
            alike(one, two) if isinstance(one, Tensor) else type(one) is type(two) and one == two
            for one, two in pairs
        )


class _Memory:
    """What a submodule was given and returned, with the weights of that time."""

    def __init__(self, *, given: _Given, output: Tensor, stamp: Stamp) -> None:
        self.given, self.output, self.stamp = given, output, stamp
        self._version = output._version

    @property
    def intact(self) -> bool:
        """Tell whether neither input nor output was written to since."""
        return self.given.intact and self.output._version == self._version

    def knows(self, given: _Given, *, compared: bool) -> bool:
        """Tell whether ``given`` is the remembered input, by comparison if need be."""
        return self.given.intact and (self.given.same_as(given) or (compared and self.given.equals(given)))

    @property
    def tensors(self) -> list[Tensor]:
        """Return all tensors that it holds."""
        return [*self.given.tensors, self.output]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """The weights of a submodule and of all inside it.

    Attributes:
        names: of the parameters, as the model calls them.
        weights: parameters and buffers.
    """

    names: Sequence[str]
    weights: Sequence[Tensor]

    @classmethod
    def of(cls, module: nn.Module, model: nn.Module) -> _Part:
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        parameters = [*module.parameters()]
        return cls(names=[names[id(one)] for one in parameters], weights=[*parameters, *module.buffers()])

    def stamp(self, changed: Mapping[str, int]) -> Stamp:
        """Return a stamp, another one whenever a weight may have changed."""
        latest = max((changed.get(name, 0) for name in self.names), default=0)
        return latest, sum(weight._version for weight in self.weights)


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Count the bytes of the tensors' storages, each counted once."""
    storages = {storage_of(tensor): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _same_bits(one: Tensor, two: object) -> bool:
    if not isinstance(two, Tensor) or (one.dtype, one.device, one.shape) != (
        two.dtype,
        two.device,
        two.shape,
    ):
        return False
    return one.stride() == two.stride() and torch.equal(_bits(one), _bits(two))


def _bits(tensor: Tensor) -> Tensor:
    """View floating point numbers as integers, because -0 equals 0 and NaN does not equal NaN."""
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    dtype = integers.get(tensor.element_size()) if tensor.is_floating_point() else None
    return tensor if dtype is None else tensor.view(dtype)


def _planned(
    calls: list[Call], modules: Mapping[str, nn.Module], sample: Tensor, budget: int
) -> dict[str, bool]:
    """Plan what to remember within the budget of one sample: name -> whether to compare its input."""
    planned: dict[str, bool] = {}
    for level in sorted({_level(call) for call in calls}):
        chosen, held = _chosen([call for call in calls if _level(call) <= level], modules, sample)
        if bytes_of(held) > budget:
            logger.debug(
                "level %d takes %d bytes a sample, and %d are allowed", level, bytes_of(held), budget
            )
            break
        planned = chosen
        if sum(_works(modules[name]) for name in chosen) >= ENOUGH:
            break
    logger.debug("the outputs of %d submodules are remembered", len(planned))
    return planned


def _chosen(
    calls: list[Call], modules: Mapping[str, nn.Module], sample: Tensor
) -> tuple[dict[str, bool], list[Tensor]]:
    """Return the submodules that can know their input again -> whether by comparing it; and what is held."""
    chosen: dict[str, bool] = {}
    held: list[Tensor] = []
    known = {id(sample)}
    for call in calls:
        told = all(id(tensor) in known for tensor in call.inputs)
        if not call.changed and (told or (_works(modules[call.name]) and not _looks_into(call))):
            chosen[call.name] = not told
            held += [*call.inputs, call.output]
            known.update(id(tensor) for tensor in (*call.inputs, call.output))
    return chosen, held


def _level(call: Call) -> int:
    return call.name.count(".") + 1 if call.name else 0


def _works(module: nn.Module) -> bool:
    """Tell whether a comparison costs little against the work: the module has a matrix or a kernel."""
    return any(parameter.ndim > 1 for parameter in module.parameters())


def _looks_into(call: Call) -> bool:
    return storage_of(call.output) in {storage_of(tensor) for tensor in call.inputs}
