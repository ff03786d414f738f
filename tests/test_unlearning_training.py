"""The victim recipe: its schedule, its order of samples, and that it learns."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.views import View
from theriac.errors import BadInput
from theriac.unlearning.inference import predict
from theriac.unlearning.metrics import accuracy
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.retraining import train_from_scratch
from theriac.unlearning.training import Recipe, TrainingDiverged, _sample_order, train

QUICK = Recipe(iterations=20, batch_size=8, learning_rate=0.05, augmentation="crop_flip")


def view(count: int = 20, side: int = 8, seed: int = 0) -> View:
    """Two classes: bright above, or bright below."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    pixels = torch.randint(0, 60, (count, 1, side, side), generator=generator, dtype=torch.uint8)
    half = side // 2
    for i, label in enumerate(labels.tolist()):
        pixels[i, :, :half] += 150 * (1 - label)
        pixels[i, :, half:] += 150 * label
    source = MemoryImages(pixels=pixels, labels=labels, classes=("above", "below"))
    return View(
        source=source,
        positions=torch.arange(count),
        labels=labels,
        which=torch.full((count,), -1),
        triggers=(),
        mean=(0.5,),
        std=(0.25,),
        device=torch.device("cpu"),
    )


def net(dropout: float = 0.0, seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Dropout(dropout), nn.Linear(144, 2))


def trained(recipe: Recipe = QUICK, seed: int = 0, **settings: Any) -> dict[str, Tensor]:
    return train(net(**settings), view(), recipe, seed=seed).state_dict()


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, b[name]) for name, value in a.items())


def test_defaults_are_those_of_the_program() -> None:
    recipe = Recipe()
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum) == ("sgd", 0.025, 0.9)
    assert (recipe.weight_decay, recipe.batch_size, recipe.iterations) == (5e-4, 512, 4000)
    assert (recipe.warmup, recipe.stretch, recipe.augmentation) == (0.01, 1.25, "crop_flip")


def test_learning_rate_by_hand() -> None:
    recipe = Recipe(learning_rate=1.0, iterations=4000)  # 50 iterations of warm-up, 0 at iteration 5000
    assert recipe.learning_rate_at(0) == pytest.approx(1 / 50)
    assert recipe.learning_rate_at(24) == pytest.approx(0.5)
    assert recipe.learning_rate_at(49) == recipe.learning_rate_at(50) == 1.0
    assert recipe.learning_rate_at(51) == pytest.approx(1 - 1 / 4950)
    assert recipe.learning_rate_at(2525) == pytest.approx(0.5)
    assert recipe.learning_rate_at(3999) == pytest.approx(1001 / 4950)


@pytest.mark.parametrize("iterations", [1, 2, 7, 80, 150, 333])
@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.3, 0.99])
@pytest.mark.parametrize("stretch", [1.0, 1.25])
def test_learning_rate_rises_once_and_stays_between_0_and_the_peak(
    iterations: int, warmup: float, stretch: float
) -> None:
    recipe = Recipe(learning_rate=0.1, iterations=iterations, warmup=warmup, stretch=stretch)
    rates = [recipe.learning_rate_at(i) for i in range(iterations)]
    assert all(0 < rate <= 0.1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_optimiser_gets_that_learning_rate() -> None:
    """One step of SGD without momentum, done by hand."""
    recipe = Recipe(iterations=1, batch_size=20, momentum=0, weight_decay=0.1, warmup=0.9, stretch=2)
    recipe = recipe.model_copy(update={"augmentation": "none"})
    model, (x, y) = net(), next(iter(view()))
    F.cross_entropy(model(x), y).backward()
    rate = recipe.learning_rate_at(0)
    assert rate < 0.6 * recipe.learning_rate
    expected = {n: p - rate * (p.grad + 0.1 * p) for n, p in model.named_parameters() if p.grad is not None}
    found = trained(recipe)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("count", "batch_size"), [(10, 5), (10, 3), (10, 10), (10, 64), (1, 4)])
def test_the_sample_order_covers_every_epoch(count: int, batch_size: int) -> None:
    epochs = 6
    size = min(batch_size, count)
    recipe = Recipe(iterations=epochs * count // size, batch_size=batch_size)
    batches = list(_sample_order(count, recipe, seed=3))
    assert len(batches) == recipe.iterations
    assert {len(batch) for batch in batches} == {size}
    rows = torch.cat(batches).tolist()
    for start in range(0, len(rows) - count + 1, count):
        assert sorted(rows[start : start + count]) == list(range(count))
    if count > 1:
        assert rows[:count] != rows[count : 2 * count]  # a new order every time


def test_the_seed_determines_the_weights() -> None:
    assert equal(trained(seed=1), trained(seed=1))
    assert not equal(trained(seed=1), trained(seed=2))


def test_dropout_is_reproducible_and_the_global_random_state_stays() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = trained(dropout=0.5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert equal(first, trained(dropout=0.5))
    assert not equal(first, trained(dropout=0.5, seed=1))


class Draws(nn.Flatten):
    """Notes a global random number in every pass."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []

    def forward(self, input: Tensor) -> Tensor:
        self.seen.append(torch.rand(1).item())
        return super().forward(input)


def test_random_layers_draw_by_the_seed() -> None:
    seen = []
    for seed in (0, 0, 1):
        draws = Draws()
        train(nn.Sequential(draws, nn.Linear(64, 2)), view(), QUICK, seed=seed)
        seen.append(draws.seen)
    assert seen[0] == seen[1]
    assert not set(seen[0]) & set(seen[2])
    assert len(set(seen[0])) == 20


@pytest.mark.parametrize(
    "change",
    [{"optimizer": "adamw", "learning_rate": 0.01}, {"precision": "bfloat16"}, {"momentum": 0.0}, {}],
    ids=["adamw", "bfloat16", "plain", "sgd"],
)
def test_learns_a_simple_task(change: dict[str, object]) -> None:
    recipe = QUICK.model_copy(update={"iterations": 60, "augmentation": "none", **change})
    model = train(net(), view(), recipe, seed=0)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert accuracy(*predict(model, view(seed=9))) == 1.0
    assert not equal(model.state_dict(), trained(QUICK.model_copy(update={"iterations": 60})))


def test_the_model_is_trained_in_place_and_returned_in_eval_mode() -> None:
    model = net().eval()
    seen: list[tuple[int, int]] = []
    assert train(model, view(), QUICK, seed=0, progress=lambda *now: seen.append(now)) is model
    assert not any(module.training for module in model.modules())
    assert seen == [(i + 1, 20) for i in range(20)]
    assert model.get_buffer("1.num_batches_tracked").item() == 20  # trained in training mode


def test_a_batch_larger_than_the_data() -> None:
    assert trained(QUICK.model_copy(update={"batch_size": 10_000})).keys() == net().state_dict().keys()


def test_divergence_is_an_error() -> None:
    recipe = QUICK.model_copy(
        update={"learning_rate": 10.0, "warmup": 0.0, "weight_decay": 1.0, "iterations": 400}
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 2))
    with pytest.raises(
        TrainingDiverged, match=r"the loss is (nan|inf) at iteration \d+; lower the learning rate"
    ):
        train(model, view(), recipe, seed=0)


def test_no_samples() -> None:
    empty = replace(view()).select(torch.zeros(20, dtype=torch.bool))
    with pytest.raises(BadInput, match="the training set is empty"):
        train(net(), empty, QUICK, seed=0)


def test_settings_that_make_no_sense() -> None:
    wrong: list[dict[str, object]] = [
        {"iterations": 0},
        {"batch_size": 0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"warmup": 1.0},
        {"stretch": 0.9},
        {"momentum": 1.0},
        {"optimizer": "lamb"},
        {"epochs": 3},
    ]
    for settings in wrong:
        with pytest.raises(ValidationError, match=next(iter(settings))):
            Recipe.model_validate(settings)


def from_scratch(seed: int, learning_rate: float = 0.05) -> nn.Module:
    spec = ModelSpec(width=1 / 64)
    data = view(side=12)
    recipe = QUICK.model_copy(update={"iterations": 3, "learning_rate": learning_rate})
    return train_from_scratch(spec, data, recipe, seed=seed, num_classes=2)


def test_from_scratch_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(0)
    first = from_scratch(4)
    torch.manual_seed(1)
    assert equal(first.state_dict(), from_scratch(4).state_dict())
    initial = [from_scratch(seed, learning_rate=1e-12).get_parameter("fc.weight") for seed in (4, 5)]
    assert not torch.allclose(initial[0], initial[1])
    assert not first.training
    assert first(torch.zeros(1, 1, 12, 12)).shape == (1, 2)
