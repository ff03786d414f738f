"""`falling` against finite differences in float64, one weight at a time."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.unlearning.dampening.direction import centred, falling, margin
from theriac.unlearning.dampening.path import DampeningPath

Batches = list[tuple[Tensor, Tensor]]


def network() -> nn.Sequential:
    """BatchNorm with statistics of its own, dropout, and a layer that takes no part."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(2)
        norm.running_mean = torch.randn(2)
        model = nn.Sequential(
            nn.Conv2d(1, 2, 2), norm, nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(8, 4)
        )
        model.register_module("idle", nn.Identity())
    return model


def batches(count: int = 7) -> Batches:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(count, 1, 3, 3, generator=generator), torch.arange(count) % 4
    return list(zip(x.split(3), y.split(3), strict=True))


def slow_margin(model: nn.Module, samples: Batches) -> float:
    """Sample by sample, in float64."""
    found = []
    for x, y in samples:
        for image, label in zip(x.double(), y.tolist(), strict=True):
            logits = model(image[None])[0].tolist()
            found.append(logits[label] - max(v for k, v in enumerate(logits) if k != label))
    return sum(found) / len(found)


@torch.no_grad()
def slow_falling(model: nn.Module, samples: Batches, step: float = 1e-6) -> dict[str, Tensor]:
    """How the mean margin falls when one weight is dampened by a part of ``step``, over that part."""
    model = copy.deepcopy(model).double().eval()
    falls = {}
    for name, parameter in model.named_parameters():
        flat, fall = parameter.view(-1), torch.zeros(parameter.numel(), dtype=torch.float64)
        for place in range(len(flat)):
            value = flat[place].item()
            flat[place] = value * (1 + step)
            more = slow_margin(model, samples)
            flat[place] = value * (1 - step)
            fall[place] = (more - slow_margin(model, samples)) / (2 * step)
            flat[place] = value
        falls[name] = fall.view_as(parameter)
    return falls


def test_it_is_how_the_mean_margin_falls():
    model, samples = network(), batches()
    found, expected = falling(model, samples), slow_falling(model, samples)
    assert set(found) == set(expected)
    for name, fall in expected.items():
        assert found[name].shape == fall.shape
        assert found[name].dtype == torch.float32
        assert torch.allclose(found[name].double(), fall, atol=2e-5), name
    assert max(float(fall.abs().max()) for fall in expected.values()) > 0.05


def test_batches_play_no_part_and_empty_ones_are_passed_over():
    model, samples = network(), batches()
    whole = (torch.cat([x for x, _ in samples]), torch.cat([y for _, y in samples]))
    nothing = (whole[0][:0], whole[1][:0])
    one, other = falling(model, [nothing, whole, nothing]), falling(model, samples)
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def test_the_model_stays_as_it_is():
    model = network().train()
    model[3].eval()
    model[0].weight.requires_grad_(False)
    before = copy.deepcopy(model)
    falling(model, batches())
    assert [m.training for m in model.modules()] == [m.training for m in before.modules()]
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, before.state_dict()[n]) for n, v in model.state_dict().items())


def test_the_model_stays_as_it_is_when_something_is_wrong():
    model = network().train().requires_grad_(False)
    with pytest.raises(BadInput, match="NaN"):
        falling(model, [(torch.full((1, 1, 3, 3), torch.nan), torch.tensor([0]))])
    assert all(module.training for module in model.modules())
    assert not any(p.requires_grad for p in model.parameters())


def test_weights_in_one_buffer_and_weights_that_play_no_part():
    model = network()
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    expected = falling(model, batches())
    assert expected["unused"].tolist() == [0.0, 0.0, 0.0]
    shared = copy.deepcopy(model).requires_grad_(False)
    importance = {name: torch.ones_like(p) for name, p in shared.named_parameters()}
    DampeningPath(dict(shared.named_parameters()), importance, importance)
    found = falling(shared, batches())
    assert all(torch.equal(found[name], fall) for name, fall in expected.items())


def test_it_works_where_gradients_are_off():
    with torch.no_grad():
        found = falling(network(), batches())
    assert any(fall.any() for fall in found.values())
    assert not any(fall.requires_grad for fall in found.values())


X, Y = torch.zeros(2, 1, 3, 3), torch.tensor([0, 1])
BAD: dict[str, tuple[nn.Module, Batches, str]] = {
    "no batches": (network(), [], "no samples"),
    "empty batches": (network(), [(X[:0], Y[:0])], "no samples"),
    "label too large": (network(), [(X, Y + 4)], "label 4 at position 0 is out of range"),
    "negative label": (network(), [(X, Y - 1)], "label -1 .*out of range"),
    "float labels": (network(), [(X, Y.float())], "labels of 2 samples"),
    "no logits": (nn.Sequential(network(), nn.Flatten(0)), [(X, Y)], "must return logits"),
    "no parameters": (nn.Flatten(), [(X, Y)], "no parameters"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str):
    model, samples, message = BAD[case]
    with pytest.raises(BadInput, match=message):
        falling(model, samples)


def test_margin_and_centred():
    logits = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0], [3.0, 3.0, 0.0]])
    labels = torch.tensor([1, 2, 0])
    assert margin(logits, labels).tolist() == [2.0, -2.0, 0.0]
    assert centred(logits, labels) == pytest.approx(torch.tensor([5 / 3, -1 / 3, 1.0]))
    assert centred(logits + 5, labels) == pytest.approx(centred(logits, labels))
