"""The gradients by which faster ways are judged, and what becomes of a way that they find wrong."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from theriac.tests import reference
from theriac.tests.importance_models import CLASSES, ConvNet, data, make, randomise
from theriac.tests.test_unlearning_models_batch_norm import Hybrid
from theriac.unlearning.importance import layer_gradients
from theriac.unlearning.importance.estimate import estimate_importance
from theriac.unlearning.importance.sensitivities import norm
from theriac.unlearning.importance.single_samples import weighted_gradients
from theriac.unlearning.importance.slow_gradients import SlowGradients
from theriac.unlearning.kinds import GRANULARITIES
from theriac.unlearning.models.batch_norm import sound_batch_norm

estimate: Any = estimate_importance


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 2e-5) -> None:
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= tolerance * value.max(), name


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_hybrid_models_are_exact(granularity: str, batch: int, caplog: pytest.LogCaptureFixture) -> None:
    """A batch, or what is left of one, may be a single image, where PyTorch's gradient is wrong."""
    torch.manual_seed(0)
    model = randomise(Hybrid()).eval()
    x, y = torch.randn(5, 3, 8, 8), torch.zeros(5, dtype=torch.int64)
    batches = list(zip(x.split(batch), y.split(batch), strict=True))
    with sound_batch_norm(model):
        expected = reference.importances(model, batches, "xlf", granularity)
    with caplog.at_level(logging.WARNING):
        assert_close(estimate(model, batches, granularity=granularity).mean(), expected)
    assert not caplog.records


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_hybrid_models_are_exact_in_chunks_of_one(granularity: str) -> None:
    torch.manual_seed(0)
    model = randomise(Hybrid()).eval()
    batches = [(torch.randn(4, 3, 8, 8), torch.zeros(4, dtype=torch.int64))]
    whole, single = (estimate(model, batches, granularity=granularity, chunk_size=n) for n in (4, 1))
    assert_close(single.mean(), whole.mean())


def test_sums_are_those_of_the_samples_in_double_precision() -> None:
    model, ((x, y),) = make("convnet").eval(), data(3)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    draws = torch.tensor([1.0, -2.0, 0.5])
    logits, found = weighted_gradients(model, parameters, dict(model.named_buffers()), norm, (x, y), draws)
    double = make("convnet").double().eval()
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits, double(x.double()).detach())
    total = (double(x.double()).norm(dim=1) * draws).sum()
    expected = torch.autograd.grad(total, list(double.parameters()))
    for (name, _), value in zip(double.named_parameters(), expected, strict=True):
        torch.testing.assert_close(found[name], value)


class Single(ConvNet):
    """Only takes float32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x @ torch.eye(x.shape[-1]))


def test_a_model_that_takes_no_doubles_is_checked_in_its_own_precision() -> None:
    torch.manual_seed(0)
    model, ((x, y),) = randomise(Single()).eval(), data(3)
    values = {name: p.detach() for name, p in model.named_parameters()}
    logits, _ = weighted_gradients(model, values, dict(model.named_buffers()), norm, (x, y), torch.ones(3))
    assert logits.dtype == torch.float32
    estimate_importance(model, [(x, y)])


class WrongInBatches(torch.autograd.Function):
    """An operation whose gradient is right for one sample and wrong for more."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return g if len(g) == 1 else 3 * g


class Broken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(432, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = WrongInBatches.apply(self.first(x.flatten(1)))
        return self.head(hidden.relu())


def test_an_operation_that_is_wrong_for_batches_is_found(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    model, batches = Broken().eval(), data(5, batch=5)
    with caplog.at_level(logging.WARNING):
        found = estimate_importance(model, batches).mean()
    assert_close(found, reference.importances(model, batches, "xlf", "sample"))
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "per-sample gradients of 2 parameter tensors take a slower, equally exact path"
    ]


def test_a_wrong_vectorised_gradient_is_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model, batches = Broken().eval(), data(5, batch=5)
    call = SlowGradients.__call__

    def doubled(self: SlowGradients, *arguments: Any) -> dict[str, Tensor]:
        return {name: (1 + self.vectorised) * value for name, value in call(self, *arguments).items()}

    monkeypatch.setattr(SlowGradients, "__call__", doubled)
    with caplog.at_level(logging.WARNING):
        found = estimate_importance(model, batches).mean()
    assert_close(found, reference.importances(model, batches, "xlf", "sample"))
    assert (
        "Broken cannot be vectorised over samples (its gradient of first.bias is wrong then)" in caplog.text
    )


def test_a_rule_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def tripled(module: nn.Linear, x: Tensor, g: Tensor) -> Any:
        return layer_gradients.linear(module, x, 3 * g)

    monkeypatch.setitem(layer_gradients.RULES, nn.Linear, tripled)
    torch.manual_seed(0)
    model, batches = randomise(ConvNet()).eval(), data(5, batch=5)
    found = estimate_importance(model, batches).mean()
    assert_close(found, reference.importances(model, batches, "xlf", "sample"))


class Kinked(nn.Module):
    """Has a ReLU just below 0 in float32 and just above it in float64 where three pixels add up to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head, self.direct = nn.Linear(429, 6), nn.Linear(6, CLASSES), nn.Linear(429, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        height = ((x[:, :1] + x[:, 1:2]) + x[:, 2:3]) * 1e-6 - 5e-7
        seen = self.first(x[:, 3:])
        logits: Tensor = self.head((seen - seen.detach() + height).relu()) + self.direct(x[:, 3:])
        return logits


@pytest.mark.parametrize(("split", "said"), [(0, False), (2, False), (3, True), (5, True)])
def test_a_kink_in_a_few_samples_is_no_error(
    split: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model, (x, y) = Kinked().eval(), data(5, batch=5)[0]
    x = x.flatten(1).clone()
    x[:, :3] = torch.tensor([0.0, 1e6, 0.0])
    x[:split, :3] = torch.tensor([1e8, 1.0, -1e8])  # adds up to 1, and to 0 in float32
    with caplog.at_level(logging.WARNING):
        estimate_importance(model, [(x, y)])
    assert ("differs between float32 and float64" in caplog.text) == said
    assert bool(caplog.records) == said


def test_an_image_that_the_model_is_certain_of_says_nothing_about_gradients(
    caplog: pytest.LogCaptureFixture,
) -> None:
    torch.manual_seed(0)
    model, (x, _) = randomise(ConvNet()).eval(), data(1, batch=1)[0]
    head: Any = model.fc
    with torch.no_grad():
        first, second = model(x).topk(2).values[0]
        for value in head.parameters():
            value.mul_(16 / (first - second))  # 1 - p is 1e-7, of which float32 keeps half
        y = model(x).argmax(1)
    with caplog.at_level(logging.WARNING):
        estimate_importance(model, [(x, y)], kind="fim")
    assert caplog.records == []


class BiasAheadOfSoftmax(nn.Module):
    """Its first bias moves all weights of an average alike: the gradient is 0, and in float32 a rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.value, self.head = nn.Linear(36, 1), nn.Linear(36, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        rows = 30 * x.flatten(2).unflatten(2, (-1, 36)).flatten(1, 2)
        logits: Tensor = self.head((self.attention(rows).softmax(1) * self.value(rows)).sum(1))
        return logits


def test_a_parameter_without_influence_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING):
        found = estimate_importance(BiasAheadOfSoftmax().eval(), data(8, batch=8)).mean()
    assert float(found["attention.bias"].max()) < 1e-5 * float(found["head.weight"].max())
    assert not caplog.records
