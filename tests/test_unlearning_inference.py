"""Predictions, and the checks around every forward pass."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.unlearning.inference import check_batch, check_logits, evaluating, predict


class Identity(nn.Module):
    """Logits are the inputs; counts its calls and notes the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return x * self.scale


def batch(*rows: list[float], labels: list[int] | None = None) -> tuple[Tensor, Tensor]:
    return torch.tensor(rows), torch.tensor(labels or [0] * len(rows))


def test_predictions_in_the_order_given() -> None:
    model = Identity()
    batches = [batch([0.0, 1.0], [1.0, 0.0], labels=[1, 1]), batch([0.0, 5.0], labels=[0])]
    predictions, labels = predict(model, batches)
    assert predictions.tolist() == [1, 0, 1]
    assert labels.tolist() == [1, 1, 0]
    assert predictions.dtype == labels.dtype == torch.int64
    assert model.modes == [False, False]
    assert model.training
    assert not predictions.requires_grad


def test_empty_batches_and_empty_sets() -> None:
    model = Identity()
    empty = torch.empty(0, 2), torch.empty(0, dtype=torch.int64)
    predictions, labels = predict(model, [empty, batch([0.0, 1.0]), empty])
    assert predictions.tolist() == [1]
    assert model.modes == [False]
    for batches in ([], [empty]):
        predictions, labels = predict(model, batches)
        assert predictions.tolist() == labels.tolist() == []
        assert predictions.dtype == torch.int64


def test_inputs_follow_the_precision_of_the_weights() -> None:
    model = nn.Linear(2, 2).half()
    predictions, _ = predict(model, [batch([0.0, 1.0])])
    assert len(predictions) == 1
    embedding = nn.Sequential(nn.Embedding(4, 3), nn.Flatten())
    predictions, _ = predict(embedding, [(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2).long())])
    assert len(predictions) == 2


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([batch([0.0, 1.0]), batch([0.0, 1.0], [0.0, float("nan")])], "forget set: sample 1 of a batch"),
        ([(torch.tensor([1.0, float("inf")]), torch.zeros(2).long())], "forget set: sample 1 of a batch"),
        ([batch([0.0, 1.0], labels=[2])], "label 2 at position 0 is out of range: there are 2 classes"),
        ([batch([0.0, 1.0], labels=[-1])], "label -1 at position 0 is out of range"),
        (
            [(torch.zeros(2, 2), torch.zeros(2, 1).long())],
            r"torch.int64 \(2, 1\); give class numbers, int64 \[2\]",
        ),
        ([(torch.zeros(2, 2), torch.zeros(2))], r"labels of 2 samples are torch.float32 \(2,\)"),
        ([(torch.zeros(2, 2), [0, 1])], "labels of 2 samples are list"),
    ],
)
def test_batches_that_cannot_be_used(batches: Any, message: str) -> None:
    model = Identity()
    with pytest.raises(BadInput, match=message):
        predict(model, batches, "forget set")
    assert model.training


def test_models_that_cannot_be_used() -> None:
    with pytest.raises(BadInput, match="the model has no parameters"):
        predict(nn.Flatten(), [batch([0.0, 1.0])])
    model = Identity()
    model.scale.data.fill_(float("nan"))
    with pytest.raises(BadInput, match="logits that are NaN or infinite; check its weights"):
        predict(model, [batch([0.0, 1.0])])


def test_logits() -> None:
    good = torch.zeros(3, 2)
    assert check_logits(good, 3) is good
    wrong: list[tuple[object, str]] = [
        (torch.zeros(2, 2), r"returns \(2, 2\) for 3 images; it must return logits \[3, classes\]"),
        (torch.zeros(3), r"returns \(3,\)"),
        (torch.zeros(3, 1), r"returns \(3, 1\).*two classes or more"),
        ((good,), "returns tuple"),
        (None, "returns NoneType"),
    ]
    for logits, message in wrong:
        with pytest.raises(BadInput, match=message):
            check_logits(logits, 3)


def test_integers_are_finite() -> None:
    check_batch(torch.zeros(2, 3, dtype=torch.uint8), "images")


def nested() -> nn.Sequential:
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.BatchNorm1d(2), nn.Dropout()))
    model.train()
    model[1].eval()
    model.get_submodule("1.1").train()
    return model


def test_every_module_gets_its_mode_back() -> None:
    model = nested()
    before = [module.training for module in model.modules()]
    with evaluating(model) as inside:
        assert inside is model
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before == [True, True, False, False, True]


def test_modes_come_back_after_an_error() -> None:
    model = nested()
    before = [module.training for module in model.modules()]
    with pytest.raises(ZeroDivisionError), evaluating(model):
        raise ZeroDivisionError
    assert [module.training for module in model.modules()] == before


class FailsToChange(nn.Dropout):
    def train(self, mode: bool = True) -> FailsToChange:
        if not mode:
            raise RuntimeError("never")
        return super().train(mode)


def test_modes_come_back_when_eval_itself_fails() -> None:
    model = nn.Sequential(nn.Dropout(), FailsToChange())
    with pytest.raises(RuntimeError, match="never"), evaluating(model):
        pass
    assert [module.training for module in model.modules()] == [True, True, True]


class AlwaysEval(nn.BatchNorm1d):
    def train(self, mode: bool = True) -> AlwaysEval:
        return super().train(False)


class Merging(nn.Linear):
    """Changes its weight when its mode changes, as low-rank adapters do."""

    def train(self, mode: bool = True) -> Merging:
        if mode != self.training:
            self.weight.data.add_(1.0 if self.training else -1.0)
        return super().train(mode)


def test_modules_with_their_own_idea_of_modes() -> None:
    model = nn.Sequential(AlwaysEval(2), Merging(2, 2)).train()
    weight = model.get_parameter("1.weight").detach().clone()
    with evaluating(model):
        assert torch.equal(model.get_parameter("1.weight"), weight + 1)
    torch.testing.assert_close(model.get_parameter("1.weight").detach(), weight)
    assert [module.training for module in model.modules()] == [True, False, True]


def test_a_module_inside_two_others_gets_its_own_mode_back() -> None:
    shared = nn.Dropout()
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared))
    model[1].training = False
    with evaluating(model):
        assert not shared.training
    assert [m.training for m in (model, model[0], shared, model[1])] == [True, True, True, False]


def test_a_module_that_stays_in_training_mode_is_named() -> None:
    class Stubborn(nn.Dropout):
        def train(self, mode: bool = True) -> Stubborn:
            return super().train(True)

    model = nn.Sequential(nn.Sequential(Stubborn()))
    with (
        pytest.raises(BadInput, match=r"module '0.0' stays in training mode after model.eval\(\)"),
        evaluating(model),
    ):
        pass
    with pytest.raises(BadInput, match="module 'Stubborn' stays"), evaluating(Stubborn()):
        pass
