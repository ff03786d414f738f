"""Fine-Pruning: which channels go, that they stay 0, and when it stops."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from theriac.datasets.samples import split
from theriac.datasets.views import seeded_generator
from theriac.errors import BadInput
from theriac.tests.planted import planted
from theriac.tests.poisoned_conv import clean, same_state, scores, victim
from theriac.unlearning.inference import predict
from theriac.unlearning.methods.feature_maps import last_convolution
from theriac.unlearning.methods.fine_pruning import FinePruning, least_active
from theriac.unlearning.methods.unlearner import Known, Unlearned
from theriac.unlearning.metrics import accuracy

QUICK = FinePruning(epochs=2, batch_size=60, augmentation="none")
LAST, BEHIND = "4", "5"  # the last convolution and its BatchNorm


def pruned(seed: int = 0, **settings: Any) -> Unlearned:
    return QUICK.model_copy(update=settings)(victim(seed), Known(clean=clean()), seed=seed)


def zeros(model: nn.Module, name: str) -> list[int]:
    """Channels whose weights are all 0."""
    return (model.get_parameter(f"{name}.weight").flatten(1) == 0).all(1).nonzero().flatten().tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pruned_channels_stay_zero_through_fine_tuning(seed: int) -> None:
    result = pruned(seed)
    model = result.model
    gone = zeros(model, LAST)
    assert len(gone) == result.trace[-1]["channels_pruned"] > 10
    for name in (f"{LAST}.bias", f"{BEHIND}.weight", f"{BEHIND}.bias"):
        values = model.get_parameter(name)
        assert (values[gone] == 0).all()
        assert (values[[c for c in range(32) if c not in gone]] != 0).all()
    maps = model[:7](clean().batch(torch.arange(20))[0])  # type: ignore[index]
    assert (maps[:, gone] == 0).all()
    assert not zeros(model, "0")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_trigger_goes_with_the_channel_that_clean_images_leave_silent(seed: int) -> None:
    method = QUICK.model_copy(update={"accuracy_drop": 0.02})
    (before, triggered), result = scores(planted()), method(planted(), Known(clean=clean()), seed=seed)
    accuracy, asr = scores(result.model)
    assert 20 in zeros(result.model, "0"), "the channel of the patch"
    assert triggered == 1.0
    assert asr < 0.1
    assert accuracy > before - 0.03


def test_the_least_active_go_first() -> None:
    model, data = victim(), clean()
    found = last_convolution(model, data.batch(torch.arange(1))[0])
    order = least_active(model, found, data).tolist()
    x = torch.cat([x for x, _ in data])
    activity = model[:7](x).mean((0, 2, 3))  # type: ignore[index]
    assert order == activity.argsort(stable=True).tolist()
    _, rest = split(data, 0.2, torch.Generator().manual_seed(0))
    gone = zeros(pruned(accuracy_drop=0.0).model, LAST)
    assert set(gone) <= set(order[: len(gone) + 3])  # by other images, so nearly in that order
    assert len(rest) == 240


@pytest.mark.parametrize("drop", [0.02, 0.2, 0.5])
def test_it_stops_where_the_accuracy_falls_too_far(drop: float) -> None:
    trace = pruned(accuracy_drop=drop).trace
    pruning = [row for row in trace if row["phase"] == "pruning"]
    assert [row["channels_pruned"] for row in pruning] == list(range(1, len(pruning) + 1))
    lowest = held_accuracy(victim()) - drop
    assert all(row["held_accuracy"] >= lowest for row in pruning[:-1])
    assert pruning[-1]["held_accuracy"] < lowest
    tuned = [row for row in trace if row["phase"] == "fine_tuning"]
    assert len(tuned) == 2
    assert {row["channels_pruned"] for row in tuned} == {len(pruning) - 1}
    assert {row["channels"] for row in trace} == {32}
    assert all("loss" in row for row in tuned)


def held_accuracy(model: nn.Module) -> float:
    held, _ = split(clean(), 0.2, seeded_generator(0, "held images"))
    return accuracy(*predict(model, held))


def test_the_round_that_went_too_far_is_taken_back() -> None:
    """Nothing may fall: with rounds of all channels the weights are the victim's, fine-tuned."""
    result = pruned(accuracy_drop=0.0, pruned_per_round=1.0, learning_rate=1e-9, weight_decay=0.0)
    assert [row["channels_pruned"] for row in result.trace] == [31, 0, 0]
    for name, parameter in victim().named_parameters():
        torch.testing.assert_close(result.model.get_parameter(name), parameter, rtol=0, atol=1e-5)


def test_one_channel_stays() -> None:
    result = pruned(accuracy_drop=1.0, epochs=1)
    assert [row["channels_pruned"] for row in result.trace] == [*range(1, 32), 31]
    assert len(zeros(result.model, LAST)) == 31


def test_another_layer_and_larger_rounds() -> None:
    result = pruned(layer="0", pruned_per_round=0.25, accuracy_drop=1.0, epochs=1)
    assert [row["channels_pruned"] for row in result.trace] == [4, 8, 12, 15, 15]
    assert len(zeros(result.model, "0")) == 15
    assert not zeros(result.model, LAST)


def test_progress_knows_the_rounds() -> None:
    done: list[tuple[int, int]] = []
    result = QUICK(victim(), Known(clean=clean()), progress=lambda *now: done.append(now))
    assert [now for now, _ in done] == [row["round"] for row in result.trace]
    assert done[-1] == (len(result.trace), len(result.trace))
    assert all(now <= of for now, of in done)


def test_the_seed_determines_the_model_and_the_victim_stays() -> None:
    model, known = victim(), Known(clean=clean())
    before = copy.deepcopy(model)
    first, second, other = (QUICK(model, known, seed=seed).model for seed in (1, 1, 2))
    assert same_state(model, before)
    assert same_state(first, second)
    assert not same_state(first, other)


def test_what_it_needs() -> None:
    with pytest.raises(BadInput, match="known to be clean"):
        QUICK(victim(), Known())
    with pytest.raises(BadInput, match="give two or more"):
        QUICK(victim(), Known(clean=clean().select(torch.arange(1))))
    with pytest.raises(BadInput, match="layer '1' is no convolution that is called once; choose 0, 4"):
        pruned(layer="1")
    flat = nn.Sequential(nn.Flatten(), nn.Linear(144, 10))
    with pytest.raises(BadInput, match=r"Sequential calls no nn\.Conv2d"):
        QUICK(flat, Known(clean=clean()))


def test_an_activation_that_passes_gradients_at_zero_revives_nothing() -> None:
    """ReLU keeps a dead channel dead by itself; ELU would move its shift in BatchNorm."""
    model = victim()
    model.set_submodule("6", nn.ELU())
    method = QUICK.model_copy(update={"accuracy_drop": 1.0, "layer": "4", "pruned_per_round": 0.5})
    result = method(model, Known(clean=clean())).model
    gone = zeros(result, LAST)
    assert len(gone) == 31
    assert (result.get_parameter(f"{BEHIND}.bias")[gone] == 0).all()
    assert (result.get_parameter(f"{BEHIND}.weight")[gone] == 0).all()
