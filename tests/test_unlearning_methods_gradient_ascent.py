"""GA, NPO and RGA: objectives against loops and written-out derivatives, the steps, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.views import View, plain_view
from theriac.errors import BadInput
from theriac.tests import reference_ascent as reference
from theriac.unlearning.methods.gradient_ascent import (
    NPO,
    RGA,
    Ascent,
    GradientAscent,
    Outputs,
    kl_divergence,
    norm_distance,
)
from theriac.unlearning.methods.unlearner import Known, Unlearned
from theriac.unlearning.training import TrainingDiverged

METHODS: dict[str, type[Ascent]] = {"ga": GradientAscent, "npo": NPO, "rga": RGA}
SETTINGS: list[tuple[str, dict[str, float]]] = [
    ("ga", {}),
    ("npo", {}),
    ("npo", {"beta": 0.1}),
    ("npo", {"beta": 7.0}),
    ("rga", {}),
    ("rga", {"c": 0.0, "mu": 0.0}),
    ("rga", {"c": 0.3, "mu": 1.5}),
]
QUICK: dict[str, Any] = {"steps": 6, "record_every": 2, "forget_batch": 4, "retain_batch": 8}


def linear_case(seed: int, at_base: bool = False) -> reference.Case:
    """Three classes, four pixels; five images of S_f and seven of retain."""
    draw = np.random.default_rng(seed)
    weight, bias = draw.normal(size=(3, 4)), draw.normal(size=3)
    other = draw.normal(size=(3, 4)), draw.normal(size=3)
    return reference.Case(
        weight=weight,
        bias=bias,
        victim=(weight + 0.5 * draw.normal(size=(3, 4)), bias + 0.5 * draw.normal(size=3)),
        base=(weight.copy(), bias.copy()) if at_base else other,
        forget=(draw.normal(size=(5, 4)), [0, 0, 0, 1, 0]),
        retain=(draw.normal(size=(7, 4)), [0, 1, 2, 0, 1, 2, 2]),
    )


def outputs(case: reference.Case, weight: Tensor, bias: Tensor) -> Outputs:
    forget, retain = torch.from_numpy(case.forget[0]), torch.from_numpy(case.retain[0])
    victim = [torch.from_numpy(v) for v in case.victim]
    return Outputs(
        forget=F.linear(forget, weight, bias),
        retain=F.linear(retain, weight, bias),
        forget_labels=torch.tensor(case.forget[1]),
        retain_labels=torch.tensor(case.retain[1]),
        victim=F.linear(forget, *victim),
        distance=norm_distance((weight, bias), [torch.from_numpy(v) for v in case.base]),
    )


def leaves(case: reference.Case) -> tuple[Tensor, Tensor]:
    weight, bias = (torch.from_numpy(v).clone().requires_grad_(True) for v in (case.weight, case.bias))
    return weight, bias


@pytest.mark.parametrize(("method", "settings"), SETTINGS)
@pytest.mark.parametrize("at_base", [False, True])
def test_objective_and_gradient_are_those_written_out(
    method: str, settings: dict[str, float], at_base: bool
) -> None:
    case = linear_case(3, at_base)
    parameters = leaves(case)
    found = METHODS[method](**settings).objective(outputs(case, *parameters))
    assert found.loss.item() == pytest.approx(reference.loss(case, method, **settings), rel=1e-10)
    found.loss.backward()
    for parameter, expected in zip(parameters, reference.gradient(case, method, **settings), strict=True):
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("method", "settings"), SETTINGS)
def test_what_an_objective_says_of_itself(method: str, settings: dict[str, float]) -> None:
    case = linear_case(5)
    found = METHODS[method](**settings).objective(outputs(case, *leaves(case)))
    beta, c = settings.get("beta", 1.0), settings.get("c", 2.0)
    assert found.weight.item() == pytest.approx(np.mean(reference.forget_weights(case, method, beta, c)))
    assert found.divergence.item() == pytest.approx(reference.divergence(case))
    for mine, data in ((found.retain, case.retain), (found.forget, case.forget)):
        assert mine.item() == pytest.approx(np.mean(reference.cross_entropies(case.weight, case.bias, data)))
    assert not any(v.requires_grad for v in (found.weight, found.divergence, found.retain, found.forget))


@pytest.mark.parametrize("method", METHODS)
def test_at_the_victim_all_ascend_alike(method: str) -> None:
    case = linear_case(7)
    same = reference.Case(**{**vars(case), "victim": (case.weight, case.bias), "base": case.victim})
    settings = {"mu": 0.0} if method == "rga" else {}
    weight, bias = leaves(same)
    found = METHODS[method](**settings).objective(outputs(same, weight, bias))
    assert found.weight.item() == pytest.approx(1.0)
    assert found.divergence.item() == pytest.approx(0.0, abs=1e-12)
    found.loss.backward()
    assert weight.grad is not None
    np.testing.assert_allclose(weight.grad.numpy(), reference.gradient(same, "ga")[0], atol=1e-12)


def test_the_distance_has_no_slope_at_the_base() -> None:
    parameters = [torch.randn(3, 2, requires_grad=True), torch.randn(4, requires_grad=True)]
    base = [parameters[0].detach().clone(), torch.zeros(4)]
    norm_distance(parameters, base).backward()
    assert parameters[0].grad is not None
    assert parameters[1].grad is not None
    assert torch.equal(parameters[0].grad, torch.zeros(3, 2))
    torch.testing.assert_close(parameters[1].grad, F.normalize(parameters[1].detach(), dim=0))


def test_divergence_of_sure_logits_is_finite() -> None:
    sure = torch.tensor([[500.0, -500.0]])
    assert kl_divergence(sure, sure.flip(1)).item() == pytest.approx(1000.0)
    assert kl_divergence(sure, sure).item() == 0.0


def view(count: int, seed: int) -> View:
    """Two classes: bright above, or bright below."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 60, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, 4 * label : 4 * label + 4] += 150
    source = MemoryImages(pixels=pixels, labels=labels, classes=("above", "below"))
    return plain_view(source, mean=(0.5,), std=(0.25,))


def net(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)]
        return nn.Sequential(*layers, nn.Linear(144, 2)).eval()


KNOWN = Known(forget=view(6, 1), retain=view(20, 2))


def layer(model: nn.Module, number: int) -> nn.Module:
    """Layer of a `net`."""
    return list(model.children())[number]


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


def run(method: str, known: Known = KNOWN, seed: int = 0, **settings: Any) -> Unlearned:
    return METHODS[method](**{**QUICK, **settings})(net(), known, seed=seed)


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("method", METHODS)
def test_first_step_is_one_clipped_step_of_adamw(method: str) -> None:
    settings: dict[str, Any] = {
        "steps": 1,
        "forget_batch": 9,
        "retain_batch": 99,
        "learning_rate": 0.01,
        "weight_decay": 0.1,
    }
    clip = 1e-6  # close to AdamW's epsilon, so that clipping shows
    found = run(method, clip=clip, **settings)
    expected = net()
    (x, y), (a, b) = next(iter(view(6, 1))), next(iter(view(20, 2)))
    loss = F.cross_entropy(expected(a), b) - F.cross_entropy(expected(x), y)  # all are GA at the victim
    loss.backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in expected.parameters() if p.grad is not None))
    with torch.no_grad():
        for p in expected.parameters():
            slope = p.grad * clip / norm if p.grad is not None else torch.zeros_like(p)
            p.mul_(1 - 0.01 * 0.1).sub_(0.01 * slope / (slope.abs() + 1e-8))
    for ours, theirs in zip(weights(found.model), weights(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert found.trace[0]["gradient_norm"] == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_determines_the_model_and_the_victim_stays(method: str) -> None:
    victim = net()
    before = weights(victim)
    first, again, other = (METHODS[method](**QUICK)(victim, KNOWN, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(victim), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(weights(first.model), weights(again.model), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights(first.model), weights(other.model), strict=True))
    assert not any(module.training for module in first.model.modules())


def test_trace_has_a_row_every_so_many_steps_and_after_the_last() -> None:
    heard: list[tuple[int, int]] = []
    found = RGA(**{**QUICK, "steps": 5})(net(), KNOWN, progress=lambda *numbers: heard.append(numbers))
    assert [row["step"] for row in found.trace] == [2, 4, 5]
    assert heard == [(1, 3), (2, 3), (3, 3)]
    columns = {"retain_loss", "forget_loss", "weight", "divergence", "gradient_norm", "distance"}
    assert columns | {"round", "seconds", "step", "forget_accuracy"} == set(found.trace[0])
    moved = norm_distance(found.model.parameters(), net().parameters()).item()
    assert found.trace[-1]["distance"] == pytest.approx(moved, rel=1e-6)
    predicted = torch.cat([found.model(x).argmax(1) == y for x, y in view(6, 1)])
    assert found.trace[-1]["forget_accuracy"] == pytest.approx(predicted.double().mean().item())
    assert found.status == "done"


def test_ascent_stops_where_the_found_poison_is_forgotten() -> None:
    wrong = replace(view(6, 1), labels=1 - view(6, 1).labels)
    settings: dict[str, Any] = {
        "steps": 200,
        "record_every": 1,
        "learning_rate": 0.02,
        "until_forget_accuracy": 0.2,
    }
    found = run("ga", Known(forget=wrong, retain=view(20, 2)), **settings)
    assert found.status == "stopped"
    assert found.trace[-1]["forget_accuracy"] <= 0.2
    assert all(row["forget_accuracy"] > 0.2 for row in found.trace[:-1])
    assert len(found.trace) < 200


def test_rga_is_pulled_to_the_base_that_is_given() -> None:
    base = net(seed=4)
    known = Known(forget=view(6, 1), retain=view(20, 2), base=base)
    start = norm_distance(net().parameters(), base.parameters()).item()
    strong: dict[str, Any] = {"mu": 100.0, "steps": 30, "learning_rate": 0.01}
    assert run("rga", known, **strong).trace[-1]["distance"] < 0.7 * start
    assert run("rga", known, **{**strong, "mu": 0.0}).trace[-1]["distance"] > 0.9 * start


@pytest.mark.parametrize("method", METHODS)
def test_batch_norm_keeps_its_statistics_unless_told(method: str) -> None:
    for mode in ("eval", "train"):
        norm = layer(run(method, batch_norm=mode).model, 1)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.num_batches_tracked is not None
        assert torch.equal(norm.running_mean, torch.zeros(4)) == (mode == "eval")
        assert int(norm.num_batches_tracked) == (0 if mode == "eval" else 6)


@pytest.mark.parametrize("method", ["npo", "rga"])
def test_augmented_images_are_shown_to_the_victim_too(method: str) -> None:
    """A victim that saw other images than the model would make the first divergence more than 0."""
    for augmentation in ("none", "crop_flip"):
        first = run(method, augmentation=augmentation, record_every=1, steps=1).trace[0]
        assert first["divergence"] == pytest.approx(0.0, abs=1e-6)
        assert first["weight"] == pytest.approx(1.0, abs=1e-5)


def test_parameters_without_gradient_take_part() -> None:
    victim = net()
    victim[0].requires_grad_(False)
    found = RGA(**QUICK)(victim, KNOWN)
    assert not same(layer(found.model, 0), layer(victim, 0))
    assert not same(layer(found.model, 5), layer(victim, 5))


@pytest.mark.parametrize("method", METHODS)
def test_divergence_names_step_and_remedy(method: str) -> None:
    broken = net()
    with torch.no_grad():
        biases = list(broken.parameters())[-1]
        biases.copy_(torch.tensor([3e38, -3e38]))
    with pytest.raises(TrainingDiverged, match=r"step 1; lower learning_rate \(0.0001\)"):
        METHODS[method](**QUICK)(broken, KNOWN)


def test_what_is_refused() -> None:
    for known in (
        Known(retain=view(4, 0)),
        Known(forget=view(4, 0)),
        Known(forget=view(0, 0), retain=view(4, 0)),
    ):
        with pytest.raises(BadInput, match="GradientAscent needs"):
            run("ga", known)
    with pytest.raises(BadInput, match=r"base: it has no parameter 0.weight"):
        run("rga", Known(forget=view(4, 0), retain=view(4, 0), base=nn.Linear(2, 2)))
    wrong = replace(view(4, 0), labels=torch.tensor([0, 1, 2, 0]))
    with pytest.raises(BadInput, match="label 2"):
        run("ga", Known(forget=wrong, retain=view(4, 0)))


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"steps": 0},
        {"clip": 0.0},
        {"until_forget_accuracy": 1.5},
        {"batch_norm": "off"},
        {"beta": 1.0},
        {"c": -1.0},
        {"mu": math.inf},
    ],
)
def test_settings_are_bounded(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RGA(**settings)
