"""Neural Cleanse: the trigger it finds, the class it names, and what unlearning that does."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.tests.planted import planted
from theriac.tests.poisoned_conv import PATCH, SIDE, TARGET, clean, network, same_state, scores, victim
from theriac.unlearning.inference import predict
from theriac.unlearning.methods import neural_cleanse
from theriac.unlearning.methods.neural_cleanse import NeuralCleanse, _Patched
from theriac.unlearning.methods.trigger_reversal import (
    ReversedTriggers,
    TriggerReversal,
    anomaly_indices,
    in_pixels,
    normalised,
    reverse_triggers,
)
from theriac.unlearning.methods.unlearner import Known, Unlearned

REVERSAL = TriggerReversal(rounds=40, steps=10, batch_size=16, patience=3, rate=0.15)
QUICK = NeuralCleanse(reversal=REVERSAL, learning_rate=0.05, epochs=3, batch_size=60, augmentation="none")
SHORT = QUICK.model_copy(update={"reversal": TriggerReversal(rounds=2, steps=2), "threshold": 1e-3})


@cache
def run(seed: int) -> tuple[Unlearned, ReversedTriggers]:
    """Of the planted victim, done once a seed; what it found on the way stands beside it."""
    found: list[ReversedTriggers] = []

    def reverse_and_keep(*arguments: Any) -> ReversedTriggers:
        found.append(reverse_triggers(*arguments))
        return found[0]

    with patch.object(neural_cleanse, "reverse_triggers", reverse_and_keep):
        return QUICK(planted(), Known(clean=clean()), seed=seed), found[0]


def cleansed(seed: int) -> Unlearned:
    return run(seed)[0]


def triggers(seed: int) -> ReversedTriggers:
    return run(seed)[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_it_names_the_target_class(seed: int) -> None:
    rows = [row for row in cleansed(seed).trace if row["phase"] == "reversal"]
    assert [row["class"] for row in rows] == list(range(10))
    smallest = min(rows, key=lambda row: row["mask_norm"])
    assert smallest["class"] == TARGET
    assert smallest["anomaly_index"] > 2
    assert [row["class"] for row in rows if row["flagged"]] == [TARGET]
    assert all(row["attack_success"] >= 0.99 for row in rows)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_mask_sits_on_the_trigger(seed: int) -> None:
    mask = triggers(seed).masks[TARGET, 0]
    half = SIDE // 2
    assert mask[half:, half:].sum() > 0.5 * mask.sum()
    assert mask[-PATCH - 1 :, -PATCH - 1 :].mean() > 3 * mask.mean()


@pytest.mark.parametrize("seed", [0, 1])
def test_unlearning_the_reversed_trigger_heals(seed: int) -> None:
    accuracy, asr = scores(cleansed(seed).model)
    assert scores(planted())[1] == 1.0
    assert asr < 0.3
    assert accuracy > 0.88
    assert cleansed(seed).status == "done"
    assert [row["phase"] for row in cleansed(seed).trace[10:]] == ["fine_tuning"] * 3


def test_the_reported_success_is_that_of_the_trigger() -> None:
    """On all clean images; the reported one is of a round's images, while the trigger moved a little."""
    found, data = triggers(1), clean()
    x = torch.cat([x for x, _ in data])
    for target in range(10):
        pixels = found.add(in_pixels(x, data), torch.full((len(x),), target))
        reached, _ = predict(planted(), [(normalised(pixels, data), torch.zeros(len(x)).long())])
        assert (reached == target).double().mean() > 0.9


def test_no_class_stands_out() -> None:
    model = victim()
    result = QUICK.model_copy(update={"threshold": 50.0, "reversal": SHORT.reversal})(
        model, Known(clean=clean())
    )
    assert result.status == "no_trigger"
    assert same_state(result.model, model)
    assert all(parameter.requires_grad for parameter in result.model.parameters())
    assert len(result.trace) == 10
    assert not any(row["flagged"] for row in result.trace)


def test_a_trigger_that_does_not_work_is_not_flagged() -> None:
    result = SHORT(planted(), Known(clean=clean()))
    small = [row for row in result.trace if row.get("anomaly_index", 0) > SHORT.threshold]
    idle = [row for row in small if row["attack_success"] < 0.99]
    assert idle
    assert not any(row["flagged"] for row in idle)


def test_anomaly_indices_by_hand() -> None:
    norms = torch.tensor([10.0, 11.0, 12.0, 13.0, 2.0])  # median 11, deviations 1 0 1 2 9: median 1
    expected = torch.tensor([1.0, 0.0, -1.0, -2.0, 9.0], dtype=torch.float64) / 1.4826
    torch.testing.assert_close(anomaly_indices(norms), expected)
    assert anomaly_indices(torch.tensor([3.0, 3.0, 3.0, 1.0])).tolist() == [0, 0, 0, torch.inf]
    assert anomaly_indices(torch.full((4,), 2.0)).tolist() == [0.0] * 4
    even = anomaly_indices(torch.tensor([1.0, 2.0, 3.0, 5.0]))  # median 2.5, deviations 1.5 .5 .5 2.5
    assert even[0].item() == pytest.approx(1.5 / 1.4826)


def reverse(model: nn.Module, seed: int = 0, **settings: Any) -> ReversedTriggers:
    quick = TriggerReversal(rounds=4, steps=3, batch_size=10, patience=1).model_copy(update=settings)
    return reverse_triggers(model, clean(), quick, torch.Generator().manual_seed(seed))


def test_classes_do_not_influence_each_other() -> None:
    together, apart = reverse(victim()), reverse(victim(), classes_at_once=3)
    torch.testing.assert_close(apart.masks, together.masks, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(apart.norms, together.norms, rtol=1e-3, atol=1e-3)


def test_masks_and_patterns_are_pixels() -> None:
    found = reverse(victim())
    assert found.masks.shape == (10, 1, SIDE, SIDE)
    assert found.patterns.shape == (10, 1, SIDE, SIDE)
    for values in (found.masks, found.patterns):
        assert 0 <= values.min() < values.max() <= 1
    assert not torch.equal(found.masks, reverse(victim(), seed=1).masks)


def test_the_trigger_is_blended_in_pixels() -> None:
    found = ReversedTriggers(
        masks=torch.tensor([0.0, 1.0, 0.25]).view(3, 1, 1, 1).expand(3, 1, 2, 2),
        patterns=torch.full((3, 1, 2, 2), 0.8),
        success=torch.ones(3),
    )
    images = torch.full((3, 1, 2, 2), 0.4)
    values = found.add(images, torch.arange(3))[:, 0, 0, 0]
    torch.testing.assert_close(values, torch.tensor([0.4, 0.8, 0.5]))


def test_reversal_leaves_the_model_alone() -> None:
    model = victim().train()
    model.get_parameter("0.bias").requires_grad_(False)
    before = copy.deepcopy(model)
    reverse(model)
    assert same_state(model, before)
    assert model.training
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert wanted == {name for name, _ in model.named_parameters()} - {"0.bias"}
    assert all(parameter.grad is None for parameter in model.parameters())


class Bright(nn.Module):
    """Class 1 where one known pixel is bright, else class 0: the smallest trigger is this pixel."""

    def forward(self, x: Tensor) -> Tensor:
        score = 8 * (x[:, 0, 2, 3] - 1.0)
        return torch.stack([-score, score], 1)


def test_the_smallest_trigger_of_a_model_that_is_known() -> None:
    model = Bright()
    model.register_parameter("unused", nn.Parameter(torch.zeros(1)))
    found = reverse(model, rounds=60, steps=5, patience=2)
    mask = found.masks[1, 0]
    assert mask.argmax().item() == 2 * SIDE + 3
    assert mask[2, 3] > 0.5
    assert found.norms[1] - mask[2, 3] < 1.0
    assert found.patterns[1, 0, 2, 3] > 0.8


def patched(share: float) -> _Patched:
    found = ReversedTriggers(
        masks=torch.ones(10, 1, SIDE, SIDE),
        patterns=(torch.arange(10) / 10).view(10, 1, 1, 1).expand(10, 1, SIDE, SIDE),
        success=torch.ones(10),
    )
    return _Patched(
        samples=clean(),
        rows=torch.arange(len(clean())),
        triggers=found,
        classes=torch.tensor([3, 7]),
        share=share,
        draws=torch.Generator().manual_seed(0),
    )


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_a_share_of_each_batch_is_patched(share: float) -> None:
    rows = torch.arange(100, 200)
    plain, labels = clean().batch(rows)
    x, y = patched(share).batch(rows)
    changed = (x != plain).flatten(1).any(1)
    assert changed.sum() == round(share * 100)
    assert torch.equal(y, labels)
    values = in_pixels(x[changed], clean())[:, 0, 0, 0]
    assert {round(value, 3) for value in values.tolist()} == ({0.3, 0.7} if share else set())


def test_the_seed_determines_the_model_and_the_victim_stays() -> None:
    model, known = victim(1), Known(clean=clean())
    before = copy.deepcopy(model)
    quick = SHORT.model_copy(update={"reversal": TriggerReversal(rounds=3, steps=5, success=0.01)})
    first, second, other = (quick(model, known, seed=seed) for seed in (1, 1, 2))
    assert same_state(model, before)
    assert first.status == "done"
    assert same_state(first.model, second.model)
    assert not same_state(first.model, other.model)
    assert not torch.equal(first.model.get_buffer("1.running_mean"), model.get_buffer("1.running_mean"))


def test_what_it_needs() -> None:
    with pytest.raises(BadInput, match="known to be clean"):
        QUICK(victim(), Known())
    with pytest.raises(BadInput, match="logits"):
        QUICK(nn.Sequential(*list(network())[:7]), Known(clean=clean()))
