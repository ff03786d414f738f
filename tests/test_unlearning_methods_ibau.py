"""I-BAU on small models: determinism, projections, what each setting does, and when it stops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.views import View, plain_view
from theriac.errors import BadInput
from theriac.tests import poisoned_conv
from theriac.tests.planted import planted
from theriac.tests.poisoned import poisoned_digits
from theriac.unlearning.methods.ibau import IBAU
from theriac.unlearning.methods.universal_perturbation import Ascent, Pixels, accuracy_under, ascend, project
from theriac.unlearning.methods.unlearner import Known
from theriac.unlearning.training import TrainingDiverged

QUICK: dict[str, Any] = {
    "rounds": 1,
    "batch_size": 50,
    "inner_steps": 4,
    "perturbations": 2,
    "batches": None,
    "augmentation": "none",
    "probe": 50,
}


def clean(count: int = 200, mean: tuple[float, ...] = (0.0,), std: tuple[float, ...] = (1.0,)) -> View:
    x, y = poisoned_digits().clean
    names = tuple(str(c) for c in range(10))
    source = MemoryImages(pixels=(x[:count] * 255).round().to(torch.uint8), labels=y[:count], classes=names)
    return plain_view(source, mean=mean, std=std)


def quick(**settings: Any) -> IBAU:
    return IBAU(**(QUICK | settings))


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_unlearns_what_it_finds_and_keeps_the_rest() -> None:
    """Under the deltas of a round the model errs before that round and no longer after it."""
    healer = quick(bound=2.0, patched=0.5, learning_rate=1e-2, distillation=0.2, inner_learning_rate=1.0)
    row = healer(planted(), Known(clean=poisoned_conv.clean())).trace[-1]
    before = quick(bound=2.0, learning_rate=1e-9, inner_learning_rate=1.0)
    victim = before(planted(), Known(clean=poisoned_conv.clean())).trace[-1]
    assert victim["attacked"] < 0.3
    assert row["attacked"] > victim["attacked"] + 0.3
    assert row["damage"] > -15


def test_the_seed_determines_the_model_and_the_victim_stays() -> None:
    victim = copy.deepcopy(poisoned_digits().model).requires_grad_(False)
    before = weights(victim).clone()
    one, same, other = (quick()(victim, Known(clean=clean()), seed=s).model for s in (0, 0, 1))
    assert torch.equal(weights(one), weights(same))
    assert not torch.equal(weights(one), weights(other))
    assert torch.equal(weights(victim), before)
    assert not any(p.requires_grad or p.grad is not None for p in victim.parameters())
    assert not one.training


@pytest.mark.parametrize("setting", [IBAU.paper, IBAU.released, IBAU], ids=["paper", "released", "default"])
def test_named_settings_run_and_trace(setting: Callable[[], IBAU]) -> None:
    healer = setting().model_copy(update={"rounds": 2, "probe": 0, "augmentation": "none"})
    found = healer(poisoned_digits().model, Known(clean=clean()), watch=lambda _: {"asr": 0.5})
    assert [row["round"] for row in found.trace] == [1, 2]
    row = found.trace[-1]
    assert row.keys() >= {"inner_loss", "delta_norm", "outer_loss", "direct_norm", "indirect_norm", "clean"}
    assert row["asr"] == 0.5
    assert (row["indirect_norm"] > 0) == (healer.iterations > 0)
    assert row["fresh"] == pytest.approx(row["recovered"] * row["clean"])


def test_paper_and_released_differ_as_the_design_page_says() -> None:
    paper, released = IBAU.paper(), IBAU.released()
    assert (paper.patched, released.patched) == (1.0, 0.01)
    assert (paper.projection, released.projection) == ("every_step", "end")
    assert (paper.inner_labels, released.inner_labels) == ("true", "predicted")
    assert (released.inner_learning_rate, released.inner_penalty) == (10.0, 0.001)
    assert (released.optimizer, released.learning_rate, released.inner_batch) == ("adam", 1e-3, "first")
    assert paper.bound == released.bound == 10.0
    assert paper.iterations == released.iterations == 5


SETTINGS: list[dict[str, Any]] = [
    {"norm": "linf", "bound": 0.1},
    {"norm": "range"},
    {"clamp": True},
    {"inner_optimizer": "adam"},
    {"inner_optimizer": "unit", "inner_learning_rate": 0.5},
    {"inner_labels": "true"},
    {"inner_penalty": 1.0},
    {"inner_steps": 1},
    {"projection": "every_step"},
    {"projection": "never"},
    {"perturbations": 1},
    {"patched": 0.5},
    {"weakest": 0.5},
    {"batches": 3},
    {"distillation": 0.5},
    {"largest": 0.5},
    {"optimizer": "sgd"},
    {"schedule": "constant"},
    {"schedule": "cosine"},
    {"shuffle": False},
    {"augmentation": "crop"},
    {"iterations": 2, "inner_batch": "first"},
    {"iterations": 2, "inner_batch": "each"},
    {"iterations": 2, "inner_batch": "all"},
    {"iterations": 2, "step": 0.5},
    {"iterations": 2, "damping": 5.0},
    {"iterations": 2, "solver": "conjugate_gradient", "damping": 50.0},
]


def test_every_setting_matters() -> None:
    """No two of these settings give the same model."""
    models = [
        weights(quick(**s)(poisoned_digits().model, Known(clean=clean())).model) for s in [{}, *SETTINGS]
    ]
    assert all(m.isfinite().all() for m in models)
    for i, one in enumerate(models):
        for other in models[:i]:
            assert not torch.equal(one, other), [{}, *SETTINGS][i]


def test_train_mode_moves_batchnorm_and_eval_mode_does_not() -> None:
    torch.manual_seed(0)
    victim = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ELU(), nn.Flatten(), nn.Linear(108, 10))
    for mode, moved in (("eval", False), ("train", True)):
        found = quick(mode=mode, iterations=2)(victim.eval(), Known(clean=clean(100)))
        norm = found.model[1]  # type: ignore[index]
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert (norm.running_mean.abs().max().item() > 0) == moved
        assert "forward" not in vars(norm)


def test_projections() -> None:
    delta = torch.tensor([[[[3.0, -4.0]]]])
    assert project(delta, "l2", 1.0).norm().item() == pytest.approx(1.0)
    torch.testing.assert_close(project(delta, "l2", 1.0) * 5, delta)
    assert torch.equal(project(delta, "l2", 10.0), delta)
    assert project(delta, "linf", 3.5).flatten().tolist() == [3.0, -3.5]
    assert project(delta, "range", 0.1).flatten().tolist() == [1.0, -1.0]
    assert not project(torch.zeros(2), "l2", 1.0).any()


def ascent(**settings: Any) -> Ascent:
    given: dict[str, Any] = {
        "norm": "l2", "bound": 0.5, "projection": "end", "optimizer": "sgd", "learning_rate": 1.0,
        "steps": None, "labels": "true", "penalty": 0.0,
    }  # fmt: skip
    return Ascent(**(given | settings))


def plain_pixels(clamp: bool = False) -> Pixels:
    return Pixels.of((0.0,), (1.0,), clamp, torch.zeros(()))


def test_the_ascent_raises_the_loss_inside_the_ball() -> None:
    model, batches = poisoned_digits().model, list(clean().batched(50))
    accuracies = []
    for projection in ("every_step", "end"):
        delta, free, _ = ascend(model, batches, ascent(projection=projection, bound=2.0), plain_pixels())
        assert delta.shape == (1, 1, 8, 8)
        assert delta.norm().item() <= 2.0 + 1e-5
        assert free >= delta.norm().item() - 1e-5
        accuracies.append(accuracy_under(model, batches, delta, plain_pixels()))
    assert max(accuracies) < accuracy_under(model, batches, None, plain_pixels()) - 0.2
    never, free, _ = ascend(model, batches, ascent(projection="never", learning_rate=50.0), plain_pixels())
    assert never.norm().item() == pytest.approx(free)
    assert free > 0.5


def test_unit_steps_are_as_long_as_said_and_a_penalty_shortens_the_way() -> None:
    model, batches = poisoned_digits().model, list(clean().batched(50))
    one, _, _ = ascend(model, batches, ascent(optimizer="unit", learning_rate=0.3, steps=1), plain_pixels())
    assert one.norm().item() == pytest.approx(0.3, rel=1e-4)
    free, held = (
        ascend(model, batches, ascent(penalty=p, learning_rate=0.1), plain_pixels())[1] for p in (0.0, 3.0)
    )
    assert held < free


def test_delta_is_in_pixels_whatever_the_normalisation() -> None:
    """Shifted and scaled inputs with a model that undoes it: the same healing, to rounding."""
    victim = poisoned_digits().model

    class Undo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = copy.deepcopy(victim)

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(x * 0.25 + 0.5)

    for clamp in (False, True):
        plain = quick(clamp=clamp)(victim, Known(clean=clean()))
        scaled = quick(clamp=clamp)(Undo(), Known(clean=clean(mean=(0.5,), std=(0.25,))))
        torch.testing.assert_close(weights(plain.model), weights(scaled.model), rtol=0.05, atol=2e-3)
        assert plain.trace[0]["delta_norm"] == pytest.approx(scaled.trace[0]["delta_norm"], rel=0.02)


def test_clamped_images_stay_images() -> None:
    x, delta = torch.rand(3, 1, 8, 8), torch.full((1, 1, 8, 8), 0.7)
    pixels = Pixels.of((0.5,), (0.25,), True, x)
    seen = pixels.add((x - 0.5) / 0.25, delta) * 0.25 + 0.5
    torch.testing.assert_close(seen, (x + 0.7).clamp(0, 1))


def test_it_stops_when_the_model_has_recovered() -> None:
    found = quick(rounds=4, recovered=0.01)(poisoned_digits().model, Known(clean=clean()))
    assert (found.status, len(found.trace)) == ("stopped", 1)


def test_it_stops_without_progress() -> None:
    healer = quick(rounds=6, patience=2, learning_rate=1e-9, recovered=None, shuffle=False)
    found = healer(poisoned_digits().model, Known(clean=clean()))
    assert (found.status, len(found.trace)) == ("stopped", 2)


def test_too_much_damage_is_undone() -> None:
    victim = poisoned_digits().model
    healer = quick(rounds=3, most_damage=5.0, optimizer="sgd", learning_rate=3.0, momentum=0.0)
    found = healer(victim, Known(clean=clean()))
    assert (found.status, found.trace[-1]["undone"]) == ("stopped", True)
    assert found.trace[-1]["damage"] < -5
    if len(found.trace) == 1:
        assert torch.equal(weights(found.model), weights(victim))


def test_divergence_is_an_error() -> None:
    healer = quick(optimizer="sgd", learning_rate=1e30, most_damage=None, rounds=2)
    with pytest.raises(TrainingDiverged, match="learning_rate"):
        healer(poisoned_digits().model, Known(clean=clean()))


def test_it_needs_clean_images() -> None:
    with pytest.raises(BadInput, match="clean"):
        quick()(poisoned_digits().model, Known())


@pytest.mark.parametrize(
    "bad",
    [
        {"patched": 1.1}, {"bound": 0.0}, {"iterations": -1}, {"rounds": 0}, {"norm": "l1"}, {"epochs": 3},
        {"distillation": 1.0}, {"weakest": 2.0}, {"perturbations": 0}, {"inner_batch": "last"},
    ],
)  # fmt: skip
def test_settings_out_of_range(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IBAU(**bad)
