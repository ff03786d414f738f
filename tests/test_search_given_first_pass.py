"""Models that behave unusually in a forward pass: the same answer as their plain twin, or one line."""

from __future__ import annotations

import copy
import functools
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

import theriac
from theriac.errors import BadInput
from theriac.search.given.first_pass import first_look
from theriac.search.heal import Healing
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()
Named = namedtuple("Named", ["logits", "features"])


class Wrapped(nn.Module):
    """The poisoned model with something done before and after."""

    def __init__(self, before: Callable[..., Tensor] | None = None, after: Any = None) -> None:
        super().__init__()
        self.net: Any = copy.deepcopy(POISONED.model)
        self.before, self.after = before, after

    def forward(self, x: Tensor) -> Any:
        logits = self.net(self.before(self, x) if self.before else x)
        return self.after(logits) if self.after else logits


def writing(_: nn.Module, x: Tensor) -> Tensor:
    return x.mul_(2).sub_(1).add_(1).div_(2)


def writing_behind(_: nn.Module, x: Tensor) -> Tensor:
    x.data.add_(1)
    return x - 1


def writing_in_training(model: nn.Module, x: Tensor) -> Tensor:
    return x.mul_(1) if not model.training else x.mul_(2).div_(2)


def keeping(model: Any, x: Tensor) -> Tensor:
    model.features = model.net[1](x.flatten(1))
    return x


UNUSUAL: dict[str, Callable[[], nn.Module]] = {
    "writes into its images": lambda: Wrapped(writing),
    "writes behind autograd's back": lambda: Wrapped(writing_behind),
    "keeps features": lambda: Wrapped(keeping),
    "returns a mapping": lambda: Wrapped(after=lambda logits: {"logits": logits, "loss": None}),
    "returns a named tuple": lambda: Wrapped(after=lambda logits: Named(logits, logits * 2)),
}
METHODS: dict[str, dict[str, Any]] = {
    "ptn": {},
    "guarded": {"search": "guarded"},
    "batch": {"granularity": "batch"},
    "ga": {"method": "ga", "search": "fixed", "parameters": {"steps": 2}},
    "ibau": {"method": "ibau", "search": "fixed", "parameters": {"rounds": 1}, "clean": POISONED.clean},
    "ft": {
        "method": "ft",
        "search": "fixed",
        "parameters": {"epochs": 1, "augmentation": "none"},
        "clean": POISONED.clean,
    },
}


def heal(model: nn.Module, method: str) -> Healing:
    found, rest, clean = (
        tuple(one[:300].clone() for one in pair) for pair in (POISONED.found, POISONED.rest, POISONED.clean)
    )
    settings = {**METHODS[method], **({"clean": clean} if "clean" in METHODS[method] else {})}
    healing = theriac.heal(model.eval(), found, rest, **settings)
    for given, same in ((found, POISONED.found), (rest, POISONED.rest), (clean, POISONED.clean)):
        assert torch.equal(given[0], same[0][:300]), "the caller's images must stay as they are"
    return healing


@functools.cache
def expected(method: str) -> Healing:
    return heal(Wrapped(), method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", UNUSUAL)
def test_the_answer_is_that_of_the_plain_model(kind: str, method: str) -> None:
    healing, right = heal(UNUSUAL[kind](), method), expected(method)
    assert healing.status == right.status
    if right.alpha is not None:
        assert healing.alpha == pytest.approx(right.alpha, rel=1e-4)
    for one, other in zip(healing.model.parameters(), right.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", ["ptn", "ga"])
def test_it_heals_under_no_grad_and_of_inference_tensors(context: Any, method: str) -> None:
    with context():
        healing = heal(Wrapped(), method)
    for one, other in zip(healing.model.parameters(), expected(method).model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("parametrise", ["weight_norm", "old weight_norm", "spectral_norm", "pruning"])
@pytest.mark.parametrize("method", ["ptn", "ga"])
@pytest.mark.filterwarnings("ignore")
def test_computed_weights(parametrise: str, method: str) -> None:
    model = Wrapped().eval()
    layer = model.net[1]
    if parametrise == "pruning":
        prune.l1_unstructured(layer, "weight", 0.1)
    elif parametrise == "old weight_norm":
        torch.nn.utils.weight_norm(layer)
    elif parametrise == "weight_norm":
        torch.nn.utils.parametrizations.weight_norm(layer)
    else:
        torch.nn.utils.parametrizations.spectral_norm(model.net[3], n_power_iterations=20)
    model(POISONED.found[0])
    healing = heal(model, method)
    assert healing.status in ("stopped", "not_healed")  # two steps of gradient ascent need not suffice
    assert healing.model(POISONED.found[0]).shape == (40, 10)


def hidden(model: Any, x: Tensor) -> Tensor:
    model.all = [(model.net[1](x.flatten(1)),)]
    return x


class Remembering(nn.Module):
    """Computes something of its weights once in eval mode, as the attention biases of LeViT in timm."""

    def __init__(self) -> None:
        super().__init__()
        self.net: Any = copy.deepcopy(POISONED.model)
        self.remembered: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> Remembering:
        if mode:
            self.remembered = {}
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        if "weight" not in self.remembered:
            self.remembered["weight"] = self.net[3].weight * 1
        hidden = self.net[2](self.net[1](self.net[0](x)))
        return nn.functional.linear(hidden, self.remembered["weight"], self.net[3].bias)


@pytest.mark.parametrize("used", [False, True])
def test_what_is_remembered_of_weights_does_not_outlive_them(used: bool) -> None:
    model = Remembering().eval()
    if used:
        model(POISONED.found[0])
    healing = heal(model, "ptn")
    right = expected("ptn")
    assert healing.alpha == pytest.approx(right.alpha, rel=1e-4)
    torch.testing.assert_close(
        healing.model(POISONED.clean[0]), right.model(POISONED.clean[0]), rtol=1e-3, atol=1e-3
    )


def breaking(model: nn.Module, x: Tensor) -> Tensor:
    if model.training:
        raise ValueError("no training\nhere")
    return x


REFUSED: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "keeps results deep inside": (lambda: Wrapped(hidden), "ptn", "cannot be copied after a forward pass"),
    "a tuple": (lambda: Wrapped(after=lambda logits: (logits, logits)), "ptn", "model returns tuple for"),
    "other names": (lambda: Wrapped(after=lambda logits: {"out": logits}), "ptn", "model returns dict for"),
    "fails in training": (
        lambda: Wrapped(breaking),
        "ga",
        r"retain set: the model cannot take images.*ValueError: no training",
    ),
    "one image alone": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 10)),
        "ptn",
        "forget set: the model cannot take images float32 .40, 1, 8, 8.*channels",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_used_is_one_line(kind: str) -> None:
    make, method, said = REFUSED[kind]
    with pytest.raises(BadInput, match=said) as caught:
        heal(make(), method)
    assert "\n" not in str(caught.value)


def test_ordinary_models_get_no_hooks() -> None:
    model = Wrapped().eval()
    assert first_look(model, {"retain set": [POISONED.rest]}, trained="retain set") == 10
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_images_in_the_precision_of_the_model() -> None:
    for dtype in (torch.float64, torch.float16):
        healing = heal(Wrapped().to(dtype), "ga")
        assert {p.dtype for p in healing.model.parameters()} == {dtype}
