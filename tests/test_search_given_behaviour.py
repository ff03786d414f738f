"""Models that answer differently each time, change themselves, mix their batch, or fail on the way back."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import theriac
from theriac.errors import BadInput
from theriac.search.given.behaviour import check_behaviour
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()
SETS = {"retain set": [(POISONED.rest[0][:40], POISONED.rest[1][:40])]}


class Odd(nn.Module):
    """The poisoned model with something done before."""

    def __init__(self, before: Callable[[Any, Tensor], Tensor] = lambda _, x: x) -> None:
        super().__init__()
        self.net: Any = copy.deepcopy(POISONED.model)
        self.before: Any = before
        self.calls: Any = 0
        self.mean: Any
        self.cache: Any
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("cache", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.before(self, x))
        return logits


def dropping(_: Odd, x: Tensor) -> Tensor:
    return F.dropout(x, 0.5, training=True)


def noisy(_: Odd, x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x)


def shifting(_: Odd, x: Tensor) -> Tensor:
    return x.roll(int(torch.randint(1, 7, ())), 3)


def counting(model: Odd, x: Tensor) -> Tensor:
    model.calls += 1
    return x * model.calls


def averaging(model: Odd, x: Tensor) -> Tensor:
    model.mean.mul_(0.9).add_(0.1 * x.mean().detach())
    return x - model.mean


def behind(model: Odd, x: Tensor) -> Tensor:
    model.mean.data += 1
    return x


def drifting(model: Odd, x: Tensor) -> Tensor:
    model.net[1].bias.data += 0.1
    return x


def caching(model: Odd, x: Tensor) -> Tensor:
    if not len(model.cache):
        model.cache = torch.ones(8)
    return x * model.cache


def averaging_in_training(model: Odd, x: Tensor) -> Tensor:
    return averaging(model, x) if model.training else x


@pytest.mark.parametrize("before", [dropping, noisy, shifting, counting])
def test_a_model_that_answers_differently_each_time_is_refused(before: Callable[..., Tensor]):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with pytest.raises(BadInput, match="gives different outputs for the same images in eval mode"):
            check_behaviour(Odd(before), SETS)


@pytest.mark.parametrize(
    ("before", "name"), [(averaging, "mean"), (behind, "mean"), (drifting, "net.1.bias")]
)
def test_a_model_that_changes_itself_is_refused_by_name(before: Callable[..., Tensor], name: str):
    with pytest.raises(BadInput, match=f"changes its own '{name}' at every forward pass, in eval mode"):
        check_behaviour(Odd(before), SETS)


@pytest.mark.parametrize("before", [lambda _, x: x, caching, averaging_in_training])
def test_ordinary_models_and_caches_are_in_no_doubt(before: Callable[..., Tensor]):
    assert check_behaviour(Odd(before).eval(), SETS) == ()


def centred(_: Odd, x: Tensor) -> Tensor:
    return x - x.mean(0)


def normalised(_: Odd, x: Tensor) -> Tensor:
    return F.batch_norm(x, None, None, training=True)


@pytest.mark.parametrize("before", [centred, normalised])
def test_predictions_that_depend_on_their_batch_are_in_doubt_once(before: Callable[..., Tensor], caplog):
    doubts = check_behaviour(Odd(before), {**SETS, "forget set": SETS["retain set"]})
    assert len(doubts) == 1
    assert doubts[0] in caplog.text
    assert "predictions depend on which images share a batch" in doubts[0]
    assert "batches of 40 and 16" in doubts[0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_are_no_batch_to_take_apart(count: int):
    few = [(POISONED.rest[0][:count], POISONED.rest[1][:count])]
    assert check_behaviour(Odd(), {"forget set": few}) == ()


class Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise KeyError("lost\nhere")


class FailsBack(Odd):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = Failing.apply(super().forward(x))
        return result


def with_hook() -> nn.Module:
    model: Any = copy.deepcopy(POISONED.model)
    model[2].register_full_backward_hook(lambda *_: 1 / 0)
    hooked: nn.Module = model
    return hooked


@pytest.mark.parametrize(("make", "error"), [(with_hook, "ZeroDivisionError"), (FailsBack, "KeyError")])
@pytest.mark.parametrize("method", ["xlf", "ga"])
def test_a_backward_pass_that_fails_is_one_line(make: Callable[[], nn.Module], error: str, method: str):
    search: dict[str, Any] = {"search": "fixed"} if method == "ga" else {}
    with pytest.raises(BadInput, match=f"set.*: the model's backward pass fails .{error}") as caught:
        theriac.heal(make().eval(), POISONED.found, POISONED.rest, method, **search)
    assert "\n" not in str(caught.value)


def test_heal_refuses_and_warns():
    with pytest.raises(BadInput, match="different outputs"):
        theriac.heal(Odd(dropping).eval(), POISONED.found, POISONED.rest)
    healing = theriac.heal(Odd(centred).eval(), POISONED.found, POISONED.rest, max_steps=1)
    assert any("share a batch" in one for one in healing.warnings)
