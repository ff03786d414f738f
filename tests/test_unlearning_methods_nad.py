"""Neural Attention Distillation: the attention maps, and that the student follows the teacher."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from theriac.errors import BadInput
from theriac.tests.poisoned_conv import CLEAN, clean, same_state, scores, victim
from theriac.unlearning.methods.feature_maps import collecting
from theriac.unlearning.methods.fine_tuning import FineTuneOnClean
from theriac.unlearning.methods.nad import (
    Distillation,
    NeuralAttentionDistillation,
    attention_distance,
    attention_map,
)
from theriac.unlearning.methods.unlearner import Known, Unlearned
from theriac.unlearning.training import train

QUICK = NeuralAttentionDistillation(teacher_epochs=3, epochs=5, batch_size=60, augmentation="none")


def distilled(seed: int = 0, **settings: Any) -> Unlearned:
    return QUICK.model_copy(update=settings)(victim(seed), Known(clean=clean()), seed=seed)


def distances(result: Unlearned) -> list[float]:
    return [row["attention_distance"] for row in result.trace if row["phase"] == "student"]


def test_attention_by_hand() -> None:
    features = torch.tensor([[[[3.0, 0.0]], [[0.0, -2.0]]]])  # two channels, two positions
    squares = torch.tensor([[9.0, 4.0]])
    torch.testing.assert_close(attention_map(features), squares / squares.norm())
    torch.testing.assert_close(attention_map(features, 1.0), torch.tensor([[3.0, 2.0]]) / 13**0.5)
    assert torch.equal(attention_map(torch.zeros(2, 3, 2, 2)), torch.zeros(2, 4))


def test_distance_by_hand() -> None:
    one, other = torch.zeros(2, 1, 1, 2), torch.zeros(2, 1, 1, 2)
    one[..., 0], other[0, ..., 0], other[1, ..., 1] = 2.0, 5.0, 1.0
    assert attention_distance(one, one).item() == 0
    assert attention_distance(one, other).item() == pytest.approx(2 / 4)  # opposite for one of two samples
    torch.testing.assert_close(attention_distance(3 * one, other), attention_distance(one, other))


def distance_after(seed: int, beta: float) -> float:
    """To another model's attention, on batches as in training, after following it for some steps."""
    student, teacher, names = victim(seed), victim(seed + 1), ["2", "6"]
    recipe = QUICK.model_copy(update={"learning_rate": 0.01}).recipe(CLEAN, epochs=8)
    with collecting(student, names) as its, collecting(teacher, names) as teachers:
        loss = Distillation(NeuralAttentionDistillation(beta=beta), teacher, its, teachers)
        train(student, clean(), recipe, seed=seed, loss=loss)
        loss.columns()
        loss(student, *clean().batch(torch.arange(CLEAN)))
    return float(loss.columns()["attention_distance"])


@pytest.mark.parametrize("seed", [0, 1])
def test_beta_pulls_attention_to_the_teacher(seed: int) -> None:
    pulled, free = distance_after(seed, 1000.0), distance_after(seed, 0.0)
    assert pulled < 0.5 * free


def test_the_student_learns_too() -> None:
    accuracy, _ = scores(distilled().model)
    assert accuracy > 0.92


def test_without_distance_it_is_fine_tuning() -> None:
    shared = {"learning_rate": 0.05, "epochs": 5, "batch_size": 60, "augmentation": "none"}
    expected = FineTuneOnClean.model_validate(shared)(victim(), Known(clean=clean())).model
    assert same_state(distilled(beta=0.0).model, expected)


def test_the_trace_shows_teacher_then_student() -> None:
    watched: list[nn.Module] = []

    def watch(model: nn.Module) -> dict[str, float]:
        watched.append(model)
        return {}

    done: list[tuple[int, int]] = []
    result = QUICK(victim(), Known(clean=clean()), watch=watch, progress=lambda *now: done.append(now))
    assert [row["phase"] for row in result.trace] == ["teacher"] * 3 + ["student"] * 5
    assert done == [(i, 8) for i in range(1, 9)]
    assert len({id(model) for model in watched[:3]}) == len({id(model) for model in watched[3:]}) == 1
    assert watched[0] is not watched[-1]
    assert result.model is watched[-1]
    assert not any(module._forward_hooks for module in result.model.modules())
    assert all(parameter.requires_grad for parameter in result.model.parameters())


def test_named_layers() -> None:
    automatic, named = distilled(), distilled(layers=("2", "6"))
    assert same_state(automatic.model, named.model)
    assert not same_state(automatic.model, distilled(layers=("6",)).model)
    with pytest.raises(BadInput, match="layer 'stem': no such module"):
        distilled(layers=("stem",))


def test_the_seed_determines_the_model_and_the_victim_stays() -> None:
    model, known = victim(), Known(clean=clean())
    before = copy.deepcopy(model)
    first, second, other = (QUICK(model, known, seed=seed).model for seed in (1, 1, 2))
    assert same_state(model, before)
    assert same_state(first, second)
    assert not same_state(first, other)
    assert not torch.equal(first.get_buffer("1.running_mean"), model.get_buffer("1.running_mean"))


def test_half_precision() -> None:
    result = distilled(precision="bfloat16")
    assert all(p.dtype == torch.float32 for p in result.model.parameters())
    assert distances(result)[-1] < distances(result)[0]


def test_without_clean_images() -> None:
    with pytest.raises(BadInput, match="NeuralAttentionDistillation needs images that are known to be clean"):
        QUICK(victim(), Known())
