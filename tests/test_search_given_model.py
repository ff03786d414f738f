"""Models as users have them: read as they are meant, or refused before any work."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model
from torch import Tensor, nn

import theriac
from theriac.errors import BadInput
from theriac.search.given.model import save_weights, with_weights, working_copy
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()


def fresh() -> nn.Sequential:
    model = copy.deepcopy(POISONED.model)
    assert isinstance(model, nn.Sequential)
    return model


def compiled(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def inside(change: Callable[[nn.Module], Any]) -> nn.Module:
    model = fresh()
    model[1] = change(model[1])
    return model


def in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        model.load_state_dict(POISONED.model.state_dict())
    return model.eval()


def apart() -> nn.Module:
    """Weights that are not contiguous, and a buffer that is expanded."""
    model = fresh()
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    layer.weight = nn.Parameter(layer.weight.detach().t().contiguous().t())
    model.register_buffer("positions", torch.zeros(1).expand(7))
    return model


READ: dict[str, Callable[[], Any]] = {
    "compiled": lambda: compiled(fresh()),
    "compiled inside": lambda: inside(compiled),
    "DataParallel": lambda: nn.DataParallel(fresh()),
    "compiled and DataParallel": lambda: compiled(nn.DataParallel(fresh())),
    "in inference mode": in_inference_mode,
    "not contiguous": apart,
}


@pytest.mark.parametrize("kind", READ)
def test_it_is_the_plain_module(kind: str) -> None:
    given = READ[kind]()
    copied = working_copy(given)
    state = POISONED.model.state_dict()
    assert {name for name, _ in copied.named_parameters()} == set(state)
    assert all(torch.equal(p, state[name]) for name, p in copied.named_parameters())
    with torch.no_grad():
        for p in copied.parameters():
            p.mul_(2)
    healed = with_weights(given, copied)
    assert all(torch.equal(p, 2 * state[name]) for name, p in healed.named_parameters())
    assert torch.equal(healed(POISONED.found[0]), copied(POISONED.found[0]))


def quantised(_: nn.Module) -> nn.Module:
    return torch.ao.nn.quantized.dynamic.Linear(64, 64)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a path": (lambda: "victim.pt", "'victim.pt' is a path.*load_weights"),
    "a Path": (lambda: Path("victim.pt"), "'victim.pt' is a path"),
    "a state dict": (lambda: POISONED.model.state_dict(), "OrderedDict is a state dict"),
    "a class": (lambda: nn.Linear, "the class Linear is no nn.Module"),
    "a function": (lambda: lambda x: x, "function is no nn.Module"),
    "nothing": (lambda: None, "NoneType is no nn.Module"),
    "traced": (lambda: torch.jit.trace(fresh(), POISONED.found[0]), "it is a .*scripted or traced"),
    "scripted inside": (lambda: inside(torch.jit.script), "its '1' is a RecursiveScriptModule"),
    "quantised inside": (lambda: inside(quantised), "its '1' is a Linear, and quantised layers"),
    "lazy": (
        lambda: inside(lambda _: nn.LazyLinear(64)),
        "'1.weight' has no values yet; run the model on one batch",
    ),
    "on the device meta": (lambda: fresh().to("meta"), "'1.weight' is on the device meta"),
    "complex": (lambda: fresh().to(torch.complex64), "'1.weight' is torch.complex64"),
    "stubborn": (lambda: inside(Stubborn), "cannot be put in eval mode .NotImplementedError: no eval here"),
    "no state": (lambda: inside(lambda _: Extra(RuntimeError("no\nstate"))), "state_dict.. fails .*: no"),
}


class Stubborn(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def train(self, mode: bool = True) -> Stubborn:
        if not mode:
            raise NotImplementedError("no eval here")
        return super().train(mode)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.inner(x)
        return result


class Extra(nn.Linear):
    """Adds something to its state dict."""

    def __init__(self, extra: Any) -> None:
        super().__init__(64, 64)
        self.extra = extra

    def get_extra_state(self) -> Any:
        if isinstance(self.extra, Exception):
            raise self.extra
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_healed_is_one_line(kind: str) -> None:
    make, said = REFUSED[kind]
    model = make()
    for method in ("xlf", "ga"):
        with pytest.raises(BadInput, match=said) as caught:
            theriac.heal(model, POISONED.found, POISONED.rest, method)
        assert "\n" not in str(caught.value)


def test_a_base_is_checked_like_the_model() -> None:
    with pytest.raises(BadInput, match=r"base: 'clean.pt' is a path"):
        theriac.heal(POISONED.model, POISONED.found, POISONED.rest, "rga", base="clean.pt")  # type: ignore[arg-type]


def saved(model: nn.Module, folder: Path) -> dict[str, Any]:
    healing = theriac.heal(model.eval(), POISONED.found, POISONED.rest, max_steps=1)
    healing.save(folder)
    report: dict[str, Any] = json.loads((folder / "healing.json").read_text())
    return report


def with_extra(extra: Any) -> nn.Module:
    model = inside(lambda _: Extra(extra))
    model.load_state_dict({**POISONED.model.state_dict(), "1._extra_state": extra})
    return model


def test_extra_state_is_stored(tmp_path: Path) -> None:
    report = saved(with_extra({"epoch": 3}), tmp_path / "json")
    assert report["extra_state"] == {"1._extra_state": {"epoch": 3}}
    report = saved(with_extra(torch.tensor([1.0, 2.0])), tmp_path / "tensor")
    assert "extra_state" not in report
    assert load_file(tmp_path / "tensor" / "model.safetensors")["1._extra_state"].tolist() == [1.0, 2.0]


def test_extra_state_that_cannot_be_stored_is_said_before_work(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        working_copy(with_extra({1, 2}))
    assert "save() will leave out 1._extra_state, a set" in caplog.text


class Shared(nn.Module):
    """Two names of one weight, two windows on one tensor, and one that is not contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.flat = nn.Parameter(torch.arange(6.0))
        self.register_buffer("first", self.flat.detach()[:3])
        self.across = nn.Parameter(torch.arange(6.0).view(2, 3).t())


def test_shared_tensors_are_saved(tmp_path: Path) -> None:
    model = Shared()
    assert save_weights(model, tmp_path / "m.safetensors") == {}
    stored = load_file(tmp_path / "m.safetensors")
    assert set(stored) == set(model.state_dict()) - {"b.weight"}
    assert all(
        torch.equal(stored[name], value) for name, value in model.state_dict().items() if name in stored
    )


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight


def test_tied_weights_can_be_loaded_again(tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    save_weights(model, tmp_path / "m.safetensors")
    load_model(other, str(tmp_path / "m.safetensors"))
    assert torch.equal(other.b.weight, model.a.weight)
    assert torch.equal(other.b.bias, model.b.bias)


@pytest.mark.parametrize("directory", ["", " ", None, 3])
def test_a_directory_that_is_none_is_refused(directory: Any) -> None:
    healing = theriac.heal(POISONED.model, POISONED.found, POISONED.rest, max_steps=1)
    with pytest.raises(BadInput, match=r"output folder is .*; give "):
        healing.save(directory)
