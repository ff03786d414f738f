"""Importances against the slow reference, and what must hold whatever the model is."""

from __future__ import annotations

import copy
import itertools
import logging
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.tests import reference
from theriac.tests.importance_models import IMAGE, MODELS, Flat, NeedsItem, data, make
from theriac.unlearning.importance.batch import BatchSums
from theriac.unlearning.importance.estimate import Importance, estimate_importance, estimate_importances
from theriac.unlearning.importance.sample import SampleSums
from theriac.unlearning.kinds import GRANULARITIES, KINDS, ImportanceKind, Loss, Reduction

SORTS = [(kind, granularity) for kind in KINDS for granularity in GRANULARITIES]
estimate: Any = estimate_importance  # called with names from tables


def assert_close(given: Importance, expected: dict[str, Tensor], tolerance: float = 2e-5) -> None:
    means = given.mean()
    assert list(means) == list(expected)
    for name, value in expected.items():
        assert means[name].shape == value.shape
        assert means[name].dtype == torch.float32
        largest = max(value.max().item(), 1e-12)
        worst = (means[name].double() - value).abs().max().item()
        assert worst <= tolerance * largest, (name, worst / largest)


@pytest.mark.parametrize(("kind", "granularity"), SORTS)
@pytest.mark.parametrize("name", MODELS)
def test_agrees_with_the_reference(name: str, kind: str, granularity: str) -> None:
    model, batches = make(name), data(7)
    expected = reference.importances(model, batches, kind, granularity)
    assert_close(estimate(model, batches, kind=kind, granularity=granularity), expected)
    assert any(value.max() > 0 for value in expected.values())


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("name", ["convnet", "resnet9"])
def test_any_loss_goes_with_any_reduction(
    name: str, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six kinds at once: those of one loss share a backward pass, whatever becomes of its gradient."""
    words = {"method": "made_up", "title": "Made up", "about": "made up"}
    pairs = itertools.product(get_args(Loss), get_args(Reduction))
    made = {f"{a}-{b}": ImportanceKind(name=f"{a}-{b}", loss=a, reduction=b, **words) for a, b in pairs}
    for kind, entry in made.items():
        monkeypatch.setitem(KINDS, kind, entry)
    model, batches = make(name), data(7)
    found = estimate_importances(model, batches, kinds=list(made), granularity=granularity)  # type: ignore[arg-type]
    assert len(found) == 6
    for kind in made:
        assert_close(found[kind], reference.importances(model, batches, kind, granularity))


def test_the_kinds_are_the_papers() -> None:
    published = {
        "fim": ("cross_entropy", "square", "ssd"),
        "lf": ("squared_norm", "absolute", "lf"),
        "xlf": ("norm", "absolute", "xlf"),
    }
    found = {name: (kind.loss, kind.reduction, kind.method) for name, kind in KINDS.items()}
    assert published.items() <= found.items()


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0])
def test_exponent_of_the_norm(exponent: float, granularity: str) -> None:
    model, batches = make("convnet"), data(6)
    expected = reference.importances(model, batches, "xlf", granularity, exponent)
    found = estimate(model, batches, kind="xlf", granularity=granularity, exponent=exponent)
    assert_close(found, expected)
    assert found.exponent == (None if exponent == 1.0 else exponent)


def test_the_two_granularities_differ() -> None:
    model, batches = make("convnet"), data(8)
    sample, batch = (estimate(model, batches, granularity=g).mean()["fc.weight"] for g in GRANULARITIES)
    assert not torch.allclose(sample, batch, rtol=1e-3)
    assert (sample >= batch * (1 - 1e-5)).all()  # the triangle inequality


def test_default_is_xlf_of_samples() -> None:
    found = estimate_importance(make("linear"), data(3))
    assert (found.kind, found.granularity, found.count) == ("xlf", "sample", 3)


@pytest.mark.parametrize(("granularity", "count"), [("sample", 9), ("batch", 3)])
def test_counts_samples_or_batches(granularity: str, count: int) -> None:
    assert estimate(make("linear"), data(9), granularity=granularity).count == count


def test_a_short_last_batch_weighs_as_much() -> None:
    model, batches = make("convnet"), data(5)  # 4 and 1
    alone = [estimate_importance(model, [b], granularity="batch").mean()["fc.weight"] for b in batches]
    both = estimate_importance(model, batches, granularity="batch").mean()["fc.weight"]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize(("kind", "granularity"), SORTS)
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 100])
def test_chunk_size_changes_nothing(chunk_size: int, kind: str, granularity: str) -> None:
    model, batches = make("resnet9"), data(7, batch=5)
    plain = estimate(model, batches, kind=kind, granularity=granularity)
    chunked = estimate(model, batches, kind=kind, granularity=granularity, chunk_size=chunk_size)
    assert chunked.count == plain.count
    assert_close(chunked, {name: value.double() for name, value in plain.mean().items()})


@pytest.mark.parametrize("kind", KINDS)
def test_for_one_sample_the_granularities_agree(kind: str) -> None:
    model, batches = make("convnet"), data(1)
    sample, batch = (estimate(model, batches, kind=kind, granularity=g) for g in GRANULARITIES)
    assert_close(sample, {name: value.double() for name, value in batch.mean().items()})


@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 3.0])
def test_logits_of_zero_have_gradient_zero(exponent: float, granularity: str) -> None:
    model = Flat()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    found = estimate(model, data(3), granularity=granularity, exponent=exponent)
    assert all((value == 0).all() for value in found.mean().values())


def test_one_sample_with_zero_logits_does_not_spoil_the_batch() -> None:
    model = Flat(bias=False)
    (x, y), *_ = data(2)
    x[0] = 0
    for granularity in GRANULARITIES:
        expected = reference.importances(model, [(x, y)], "xlf", granularity)
        assert_close(estimate(model, [(x, y)], granularity=granularity), expected)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_the_model_is_left_as_it_was(granularity: str) -> None:
    model = nn.Sequential(make("convnet"), nn.Dropout())
    model[0].get_submodule("norm").eval()
    model[0].get_parameter("conv.weight").requires_grad_(False)
    modes = [module.training for module in model.modules()]
    before = copy.deepcopy(model.state_dict())
    pointers = [p.data_ptr() for p in model.parameters()]
    estimate(model, data(5), granularity=granularity)
    assert [module.training for module in model.modules()] == modes == [True, True, True, False, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert all(p.grad is None for p in model.parameters())
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert frozen == ["0.conv.weight"]


def test_gradients_of_the_user_stay() -> None:
    model = Flat()
    model(data(2)[0][0]).sum().backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    estimate_importance(model, data(2), granularity="batch")
    after = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


class Counting(Flat):
    """Counts its calls in a buffer, in place: nothing that vmap can do."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(input)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_buffers_that_the_forward_pass_changes_stay(granularity: str) -> None:
    model = Counting()
    found = estimate(model, data(3), granularity=granularity)
    assert model.calls.item() == 0
    assert_close(found, reference.importances(model, data(3), "xlf", granularity))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_half_precision_is_widened(dtype: torch.dtype, granularity: str) -> None:
    model = make("convnet").to(dtype)
    batches = [(x.to(dtype), y) for x, y in data(5)]
    expected = reference.importances(model, batches, "fim", granularity)
    assert_close(estimate(model, batches, kind="fim", granularity=granularity), expected)
    assert model.get_parameter("conv.weight").dtype == dtype


def test_double_precision_is_kept() -> None:
    model, batches = make("convnet").double(), data(5)
    expected = reference.importances(model, batches, "xlf", "sample")
    found = estimate_importance(model, batches)
    for name, total in found.total.items():
        torch.testing.assert_close(total / found.count, expected[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_many_small_terms_after_a_large_one_count(granularity: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    x = torch.cat([torch.full((1, 1), 1e4), torch.full((200, 1), 1e-4)])
    batches = [(x[i : i + 1], torch.zeros(1, dtype=torch.int64)) for i in range(len(x))]
    found = estimate(model, batches, kind="lf", granularity=granularity).total["1.weight"]
    expected = reference.importances(model, batches, "lf", granularity)["1.weight"] * len(x)
    first = estimate(model, batches[:1], kind="lf", granularity=granularity).total["1.weight"]
    reference_first = reference.importances(model, batches[:1], "lf", granularity)["1.weight"]
    torch.testing.assert_close(found - first, expected - reference_first, rtol=1e-4, atol=0)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_works_inside_no_grad(granularity: str) -> None:
    model, batches = make("convnet"), data(3)
    outside = estimate(model, batches, granularity=granularity)
    with torch.no_grad():
        inside = estimate(model, batches, granularity=granularity)
    assert all(torch.equal(inside.total[name], value) for name, value in outside.total.items())


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_empty_batches_are_passed_over(granularity: str) -> None:
    model, batches = make("resnet9"), data(5)
    empty = (torch.empty((0, *IMAGE)), torch.empty(0, dtype=torch.int64))
    plain = estimate(model, batches, granularity=granularity)
    padded = estimate(model, [empty, batches[0], empty, batches[1], empty], granularity=granularity)
    assert padded.count == plain.count
    assert all(torch.equal(padded.total[name], value) for name, value in plain.total.items())


def test_progress_counts_samples() -> None:
    seen: list[int] = []
    estimate_importance(Flat(), data(9), progress=seen.append)
    assert seen == [4, 8, 9]


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_that_cannot_be_vectorised(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    model = NeedsItem()
    expected = reference.importances(model, data(7), kind, "sample")
    with caplog.at_level(logging.WARNING):
        assert_close(estimate(model, data(7), kind=kind), expected)
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "per-sample gradients of 1 parameter tensors take a slower, equally exact path",
        "NeedsItem cannot be vectorised over samples",
    ]


class Silent(Flat):
    """Has a parameter of no layer, and fails under vmap with an error that has no message."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, input: Tensor) -> Tensor:
        if torch._C._functorch.is_functorch_wrapped_tensor(input):
            raise NotImplementedError
        return super().forward(input) * self.scale


def test_an_error_without_a_message_is_named(caplog: pytest.LogCaptureFixture) -> None:
    estimate_importance(Silent(), data(3))
    assert "(NotImplementedError)" in caplog.text


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes passes over more than ``room`` samples run out of memory; returns the sizes that are tried."""
    by_sample, by_batch = SampleSums._sums, BatchSums._gradients

    def limit(room: int) -> list[int]:
        tried = []

        def guard(x: Tensor) -> None:
            tried.append(len(x))
            if len(x) > room:
                raise torch.OutOfMemoryError("simulated")

        def few_samples(self: SampleSums, x: Tensor, y: Tensor) -> Any:
            guard(x)
            return by_sample(self, x, y)

        def few_of_a_batch(self: BatchSums, x: Tensor, y: Tensor, count: int) -> Any:
            guard(x)
            return by_batch(self, x, y, count)

        monkeypatch.setattr(SampleSums, "_sums", few_samples)
        monkeypatch.setattr(BatchSums, "_gradients", few_of_a_batch)
        return tried

    return limit


@pytest.mark.parametrize(("kind", "granularity"), SORTS)
def test_out_of_memory_takes_smaller_chunks(
    kind: str, granularity: str, little_memory: Any, caplog: pytest.LogCaptureFixture
) -> None:
    model, batches = make("convnet"), data(30, batch=13)
    plain = estimate(model, batches, kind=kind, granularity=granularity)
    tried = little_memory(2)
    with caplog.at_level(logging.WARNING):
        found = estimate(model, batches, kind=kind, granularity=granularity)
    assert found.count == plain.count
    assert tried == [13, 6, 3] + [1] * 30
    assert_close(found, {name: value.double() for name, value in plain.mean().items()})
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory with 13 samples at once; going on with fewer: the last digits of the importances, and "
        "of alpha, may differ from those of a run with more memory"
    ]
    assert (plain.reduced_to, found.reduced_to) == (None, 1)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_out_of_memory_with_one_sample(granularity: str, little_memory: Any) -> None:
    little_memory(0)
    with pytest.raises(BadInput, match="a single sample; use a device with more memory"):
        estimate(make("linear"), data(3), granularity=granularity)


def test_running_out_of_memory_while_summing_counts_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = make("convnet"), data(4)
    plain = estimate_importance(model, batches)
    sizes, calls = SampleSums._sizes, []

    def fails_once(self: SampleSums, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:  # after some parameters of the first chunk
            raise torch.OutOfMemoryError("simulated")
        return sizes(self, *arguments, **options)

    monkeypatch.setattr(SampleSums, "_sizes", fails_once)
    found = estimate_importance(model, batches)
    assert_close(found, {name: value.double() for name, value in plain.mean().items()})


def test_attention_is_vectorised_without_a_warning(recwarn: pytest.WarningsRecorder) -> None:
    estimate_importance(make("tiny vit"), data(3))
    assert [str(w.message) for w in recwarn] == []
