"""Fine-tuning: what it keeps, what it leaves alone, and the trace."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from theriac.errors import BadInput
from theriac.tests.poisoned_conv import clean, retain, same_state, scores, victim
from theriac.unlearning.methods.fine_tuning import FineTuneOnClean, FineTuneOnRetain
from theriac.unlearning.methods.unlearner import Known, Unlearner
from theriac.unlearning.training import Recipe, TrainingDiverged, train

QUICK = FineTuneOnClean(epochs=2, batch_size=60, augmentation="none")
RECIPE = Recipe(iterations=40, batch_size=64, learning_rate=0.05, augmentation="none")
CF = FineTuneOnRetain(**RECIPE.model_dump())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cf_trains_the_undiscovered_poison_in_again(seed: int) -> None:
    """That is the finding: retain without a tenth of the poison keeps the trigger alive."""
    known = retain().select(torch.arange(len(retain())) >= 10)
    result = CF(victim(seed), Known(retain=known), seed=seed)
    accuracy, asr = scores(result.model)
    assert accuracy > 0.94
    assert asr > 0.9


def test_cf_is_the_recipe_on_retain() -> None:
    expected = train(victim(), retain(), RECIPE, seed=5)
    assert same_state(CF(victim(), Known(retain=retain()), seed=5).model, expected)


def test_a_high_rate_on_clean_images_wears_the_trigger_away() -> None:
    gentle = scores(QUICK(victim(), Known(clean=clean())).model)
    rough = QUICK.model_copy(update={"learning_rate": 2.0, "epochs": 8})
    rough_scores = scores(rough(victim(), Known(clean=clean())).model)
    assert gentle[1] > 0.9
    assert rough_scores[1] < gentle[1] - 0.3
    assert gentle[0] > 0.93


@pytest.mark.parametrize(
    ("method", "needed"), [(QUICK, "known to be clean"), (CF, "the rest of the training set")]
)
def test_without_its_set(method: Unlearner, needed: str) -> None:
    with pytest.raises(BadInput, match=needed):
        method(victim(), Known())


@pytest.mark.parametrize("method", [QUICK, CF], ids=["clean", "retain"])
def test_the_seed_determines_the_model_and_the_victim_stays(method: Unlearner) -> None:
    model, known = victim(), Known(clean=clean(), retain=retain())
    before = copy.deepcopy(model)
    first, second, other = (method(model, known, seed=seed).model for seed in (1, 1, 2))
    assert same_state(model, before)
    assert not model.training
    assert same_state(first, second)
    assert not same_state(first, other)


def test_running_statistics_follow_the_clean_images() -> None:
    model = QUICK(victim(), Known(clean=clean())).model
    assert not torch.equal(model.get_buffer("1.running_mean"), victim().get_buffer("1.running_mean"))
    assert not any(module.training for module in model.modules())


def test_rounds_of_the_trace() -> None:
    seen: list[bool] = []
    done: list[tuple[int, int]] = []

    def watch(model: nn.Module) -> dict[str, float]:
        seen.append(model.training)
        return {"asr": scores(model)[1]}

    result = QUICK(victim(), Known(clean=clean()), watch=watch, progress=lambda *now: done.append(now))
    assert [row["round"] for row in result.trace] == [1, 2]
    assert [row["phase"] for row in result.trace] == ["fine_tuning"] * 2
    assert all(0 < row["loss"] < 2 and 0 <= row["asr"] <= 1 for row in result.trace)
    assert done == [(1, 2), (2, 2)]
    assert seen == [False, False]
    assert same_state(result.model, QUICK(victim(), Known(clean=clean())).model)  # a watch changes nothing


def test_the_loss_of_a_round_is_its_mean() -> None:
    """With a rate of almost nothing, batches of everything, and BatchNorm as in training."""
    method = QUICK.model_copy(update={"learning_rate": 1e-9, "batch_size": 300, "weight_decay": 0.0})
    x, y = clean().batch(torch.arange(300))
    expected = nn.functional.cross_entropy(victim().train()(x), y).item()
    assert method(victim(), Known(clean=clean())).trace[0]["loss"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("per_round", "rounds"), [(None, 3), (15, 3), (40, 1), (7, 6)])
def test_rounds_of_cf(per_round: int | None, rounds: int) -> None:
    method = CF.model_copy(update={"round_iterations": per_round})
    assert math.ceil(len(retain()) / 64) == 18
    assert len(method(victim(), Known(retain=retain())).trace) == rounds


def test_an_epoch_is_rounded_up_to_whole_batches() -> None:
    assert FineTuneOnClean(epochs=3, batch_size=128).recipe(5000).iterations == 120
    assert FineTuneOnClean(epochs=3, batch_size=128).recipe(100).iterations == 3
    assert FineTuneOnClean(epochs=3).recipe(5000, epochs=1).iterations == 40


def test_the_recipe_says_what_the_settings_say() -> None:
    method = FineTuneOnClean(
        optimizer="adamw",
        learning_rate=0.003,
        momentum=0.5,
        weight_decay=0.1,
        augmentation="crop",
        precision="bfloat16",
    )
    recipe = method.recipe(5000)
    shared = set(Recipe.model_fields) & set(FineTuneOnClean.model_fields)
    assert shared == {
        *("optimizer", "learning_rate", "momentum", "weight_decay"),
        *("batch_size", "augmentation", "precision"),
    }
    assert recipe.model_dump(include=shared) == method.model_dump(include=shared)
    assert recipe.learning_rate_at(0) == 0.003


def test_divergence() -> None:
    wild = QUICK.model_copy(update={"learning_rate": 10.0, "weight_decay": 1.0, "epochs": 60})
    flat = nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.Linear(64, 10))
    with pytest.raises(TrainingDiverged, match="the loss is"):
        wild(flat, Known(clean=clean()))


def test_settings_that_make_no_sense() -> None:
    for wrong in ({"epochs": 0}, {"learning_rate": 0.0}, {"batch_size": 0}, {"iterations": 3}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            FineTuneOnClean.model_validate(wrong)
    with pytest.raises(ValidationError, match="round_iterations"):
        FineTuneOnRetain(round_iterations=0)
