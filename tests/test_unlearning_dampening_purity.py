"""Calls that depend on their inputs and weights alone, and all sorts that do not."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.tests import importance_models
from theriac.unlearning.dampening.purity import pure_calls, replaced

OUTSIDE = torch.randn(4)
WEIGHT = nn.Parameter(torch.randn(4))


class Middle(nn.Module):
    """Between two linear layers."""

    def __init__(self, forward: Callable[..., object] = lambda self, x: torch.tanh(x) * 2.0 + 1) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("mean", torch.zeros(4))
        self.calls, self.seen = 0, [0]
        self._function = forward

    def forward(self, *args: object, **kwargs: object) -> object:
        return self._function(self, *args, **kwargs)


class Around(nn.Module):
    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 4), middle, nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


def names(model: nn.Module, shape: tuple[int, ...] = (4,)) -> set[str]:
    return {call.name for call in pure_calls(model.eval(), torch.randn(1, *shape))}


def counted(self: Middle, x: Tensor) -> Tensor:
    self.calls += 1
    return x * 1.0


def counted_in_a_list(self: Middle, x: Tensor) -> Tensor:
    self.seen[0] += 1
    return x * 1.0


def written_buffer(self: Any, x: Tensor) -> Tensor:
    self.mean.add_(1)
    return x - self.mean


def cached(self: Middle, x: Tensor) -> Tensor:
    self.cache = x
    return x * 1.0


IMPURE: dict[str, Callable[..., object]] = {
    "drops at random": lambda self, x: F.dropout(x, 0.5, training=True),
    "noise": lambda self, x: x + torch.randn_like(x),
    "noise of its own generator": lambda self, x: x + torch.rand(4, generator=torch.Generator()),
    "a tensor from outside": lambda self, x: x + OUTSIDE,
    "a view of a parameter from outside": lambda self, x: x + WEIGHT[:4],
    "a constant made of Python numbers": lambda self, x: x + torch.tensor([1.0, 2.0, 3.0, 4.0]),
    "writes to a buffer": written_buffer,
    "counts": counted,
    "counts in a list": counted_in_a_list,
    "keeps its input": cached,
    "returns what is from outside": lambda self, x: OUTSIDE[None],
}


@pytest.mark.parametrize("what", IMPURE)
def test_impure_calls_and_all_around_them_are_left_out(what: str) -> None:
    assert names(Around(Middle(IMPURE[what]))) == {"first", "last"}


@pytest.mark.parametrize(
    "write",
    [
        lambda self, x: x.add_(1),
        lambda self, x: x.data.add_(1),
        lambda self, x: x[:, :2].zero_(),
        lambda self, x: torch.add(x, 1, out=x),
    ],
    ids=["in place", "past the version", "in part", "as an output"],
)
def test_writing_to_an_input_is_impure_and_changes_an_output(write: Callable[..., object]) -> None:
    calls = pure_calls(Around(Middle(lambda self, x: (write(self, x), x * 1.0)[1])).eval(), torch.randn(1, 4))
    assert {call.name: call.changed for call in calls} == {"": False, "first": True, "last": False}


def test_writing_to_the_weights_is_impure() -> None:
    assert names(Around(Middle(lambda self, x: x * self.scale.data.mul_(2)))) == {"first", "last"}


@pytest.mark.parametrize("draw", [random.random, np.random.rand], ids=["python", "numpy"])
def test_a_model_with_random_numbers_of_others_has_no_pure_calls(draw: Callable[[], float]) -> None:
    assert names(Around(Middle(lambda self, x: x * draw()))) == set()


PURE: dict[str, Callable[..., object]] = {
    "numbers and its parameter": lambda self, x: torch.tanh(x) * 2.0 + 1 - self.scale,
    "a buffer": lambda self, x: x - self.mean,
    "no dropout": lambda self, x: F.dropout(x, 0.5, training=False),
    "attention": lambda self, x: F.scaled_dot_product_attention(x[None], x[None], x[None])[0],
    "the input itself": lambda self, x: x,
    "a loop, a new tensor, writing to its own": lambda self, x: (x * 1.0).add_(torch.zeros(4)),
}


@pytest.mark.parametrize("what", PURE)
def test_pure_calls(what: str) -> None:
    assert names(Around(Middle(PURE[what]))) == {"", "first", "middle", "last"}


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")
def test_hooks_replaced_forwards_and_scripts_are_left_out() -> None:
    hooked, replaced_one = Around(Middle()), Around(Middle())
    hooked.middle.register_forward_hook(lambda module, args, output: None)
    vars(replaced_one.middle)["forward"] = lambda x: x * 1.0
    scripted = Around(torch.jit.trace(nn.Linear(4, 4).eval(), torch.randn(1, 4), check_trace=False))
    before = Around(Middle())
    before.middle.register_forward_pre_hook(lambda module, args: None)
    for model in (hooked, before, replaced_one, scripted):
        assert names(model) == {"first", "last"}
    assert "forward" in vars(replaced_one.middle)


def test_a_hook_inside_a_module_that_is_not_called_counts() -> None:
    middle = Middle(lambda self, x: F.linear(x, self.inner.weight))
    middle.inner = nn.Linear(4, 4, bias=False)
    assert names(Around(middle)) == {"", "first", "middle", "last"}
    middle.inner.register_forward_hook(lambda module, args, output: None)
    assert names(Around(middle)) == {"first", "last"}


def test_only_tensors_and_constants_go_in_and_one_tensor_comes_out() -> None:
    class Calls(Around):
        def __init__(self, *args: object, **kwargs: object) -> None:
            super().__init__(Middle(lambda self, x, *args, **kwargs: x * 1.0))
            self.given = args, kwargs

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.middle(self.first(x), *self.given[0], **self.given[1]))

    assert "middle" in names(Calls(2, None, flag=True))
    assert "middle" not in names(Calls([2]))
    assert "middle" not in names(Calls(other=nn.Identity()))

    class Twins(Around):
        def __init__(self) -> None:
            super().__init__(Middle(lambda self, x: (x * 1.0, x * 2.0)))

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.middle(self.first(x))[0])

    assert names(Twins()) == {"", "first", "last"}


def test_what_is_called_twice_is_left_out_and_what_is_around_it_is_not() -> None:
    model = importance_models.make("shared")
    assert names(model, importance_models.IMAGE) == {"", "again", "head"}


def test_outputs_that_are_written_to_later() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 3))
    calls = {call.name: call.changed for call in pure_calls(model, torch.randn(1, 4))}
    assert calls == {"": False, "0": True, "2": False}


def test_calls_come_in_the_order_they_begin_with_their_tensors() -> None:
    model, x = Around(Middle()).eval(), torch.randn(1, 4)
    calls = pure_calls(model, x)
    assert [call.name for call in calls] == ["", "first", "middle", "last"]
    assert calls[0].inputs[0] is x
    assert calls[2].inputs[0] is calls[1].output
    assert calls[0].output is calls[3].output


def test_a_model_that_takes_no_single_sample_has_no_pure_calls() -> None:
    assert names(Around(Middle(lambda self, x: x.view(2, 4)[:1]))) == set()


def test_the_model_stays_as_it_is() -> None:
    model = Around(Middle()).train()
    before = [{**vars(module)} for module in model.modules()]
    pure_calls(model, torch.randn(1, 4))
    assert all(was == vars(module) for was, module in zip(before, model.modules(), strict=True))
    with pytest.raises(ZeroDivisionError), replaced({model.first: lambda x: 1 / 0}):
        model(torch.randn(1, 4))
    assert "forward" not in vars(model.first)
