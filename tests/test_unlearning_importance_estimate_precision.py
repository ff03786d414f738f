"""Importances in reduced precision, and in the memory order that convolutions like."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.tests import reference
from theriac.tests.importance_models import CLASSES, ConvNet, Flat, data, make, randomise, tiny_vit
from theriac.unlearning.importance import convolutions, layer_calls
from theriac.unlearning.importance.estimate import (
    Importance,
    estimate_importance,
    estimate_importances,
)
from theriac.unlearning.importance.layer_gradients import rule_for
from theriac.unlearning.importance.sample import SampleSums
from theriac.unlearning.importance.sensitivities import Sensitivity
from theriac.unlearning.importance.working_model import WorkingModel
from theriac.unlearning.kinds import GRANULARITIES, KINDS
from theriac.unlearning.precision import Arithmetic, arithmetic_for, no_tf32

SORTS = [(kind, granularity) for kind in KINDS for granularity in GRANULARITIES]
JUMPY = ("convnet", "resnet9")
ERRORS = {("bfloat16", False): (0.05, 0.02), ("bfloat16", True): (1.0, 0.3), ("float16", False): (0.02, 0.01)}
ERRORS["float16", True] = ERRORS["float16", False]
"""Of the entries above half of a tensor's largest, and of a tensor's sum. Where the gradient jumps (a maximum
goes to another position, CELU(0.075) turns off) a rounding moves some of these few samples altogether."""

estimate: Any = estimate_importance


def assert_near(found: Importance, expected: dict[str, Tensor], errors: tuple[float, float]) -> None:
    for name, value in expected.items():
        given, large = found.mean()[name].double(), value >= 0.5 * value.max()
        assert ((given - value).abs() <= errors[0] * value)[large].all(), name
        assert abs(given.sum() - value.sum()) <= errors[1] * value.sum(), name


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize(("kind", "granularity"), SORTS)
@pytest.mark.parametrize("name", ["convnet", "shared", "direct", "resnet9", "tiny vit"])
def test_reduced_precision_is_near_the_reference(
    name: str, kind: str, granularity: str, precision: str
) -> None:
    model, batches = make(name), data(12, batch=6)
    expected = reference.importances(model, batches, kind, granularity)
    found = estimate(model, batches, kind=kind, granularity=granularity, precision=precision)
    assert_near(found, expected, ERRORS[precision, name in JUMPY])
    assert found.precision == precision
    plain = estimate(model, batches, kind=kind, granularity=granularity)
    slow = name == "direct" and granularity == "sample"
    assert slow or any(not torch.equal(value, plain.total[name]) for name, value in found.total.items())
    assert all(value.dtype == torch.float64 for value in found.total.values())


def confident() -> nn.Module:
    """Every sample is of class 0 with a probability of 1 - 1e-5, so its gradients are beneath float16."""
    model = randomise(ConvNet())
    with torch.no_grad():
        model.get_parameter("fc.bias").copy_(torch.tensor([12.0, 0.0, 0.0]))
        model.get_parameter("fc.weight").mul_(0.2)
    return model


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_small_gradients_do_not_underflow_in_float16(granularity: str) -> None:
    model = confident()
    batches = [(x, torch.zeros_like(y)) for x, y in data(8)]
    expected = reference.importances(model.double(), batches, "fim", granularity)
    assert 0 < expected["conv.weight"].max() < 1e-8
    found = estimate(model.float(), batches, kind="fim", granularity=granularity, precision="float16")
    for name, value in expected.items():
        assert (found.mean()[name] - value).abs().max() <= 0.1 * value.max(), name


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_overflow_in_float16_is_told(granularity: str) -> None:
    model = ConvNet()
    batches = [(x * 3e3, y) for x, y in data(2)]
    with pytest.raises(BadInput, match="use precision 'bfloat16' or 'float32'"):
        estimate(model, batches, granularity=granularity, precision="float16")
    with pytest.raises(BadInput, match="the logits are not finite in float16"):
        estimate(model, [(x * 1e9, y) for x, y in data(2)], granularity=granularity, precision="float16")


def test_scales_are_powers_of_two_near_the_gradient() -> None:
    gradients = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-6, 0.0], [0.0, 1e-15]])
    scales = Arithmetic("float16").sample_scales(gradients)
    assert scales.tolist() == [2.0**4, 2.0**6, 2.0**26, 2.0**46]
    assert Arithmetic("float16").batch_scale(gradients / 4, 4) == 2.0**8


def test_float16_on_a_cpu_is_told_to_be_slow(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        estimate(Flat(), data(2), precision="float16")
    assert "float16 on a CPU is far slower than float32" in caplog.text


def test_what_a_precision_does_not_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = data(2)
    with pytest.raises(BadInput, match="unknown precision 'half'; choose from float32, bfloat16, float16"):
        estimate(Flat(), batches, precision="half")
    doubles = [(x.double(), y) for x, y in batches]
    with pytest.raises(BadInput, match="weights in float64, which autocast leaves alone"):
        estimate(Flat().double(), doubles, precision="bfloat16")
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda _: False)
    with pytest.raises(BadInput, match="precision 'bfloat16' is not available on cpu; use 'float32'"):
        arithmetic_for("bfloat16", torch.device("cpu"), torch.float32)
    assert arithmetic_for("float32", torch.device("cpu"), torch.float64) == Arithmetic()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_float32_means_it_inside_an_autocast(granularity: str) -> None:
    model, batches = make("resnet9"), data(5)
    plain = estimate(model, batches, granularity=granularity)
    with torch.autocast("cpu", torch.bfloat16):
        inside = estimate(model, batches, granularity=granularity)
    assert all(torch.equal(inside.total[name], value) for name, value in plain.total.items())


@pytest.fixture(params=[True, False])
def tf32(request: pytest.FixtureRequest) -> Iterator[bool]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_tf32_is_off_on_cuda_while_importances_are_computed(tf32: bool) -> None:
    def states() -> list[bool]:
        return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]

    def interrupted() -> None:
        with no_tf32(torch.device("cuda")):
            seen.append(states())
            raise KeyError

    seen: list[list[bool]] = []
    with no_tf32(torch.device("cpu")):
        seen.append(states())
    with pytest.raises(KeyError):
        interrupted()
    assert [*seen, states()] == [[tf32, tf32], [False, False], [tf32, tf32]]


def test_the_slow_path_goes_on_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    model, batches = make("direct"), data(6)
    plain = estimate_importance(model, batches)
    with caplog.at_level(logging.WARNING):
        for precision in ("bfloat16", "float16"):
            found = estimate(model, batches, precision=precision)
            for name, value in plain.total.items():
                torch.testing.assert_close(found.total[name], value, rtol=1e-5, atol=1e-6)
    assert "take a slower, equally exact path" in caplog.text


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_check_finds_wrong_rules_in_any_precision(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 1 %, which is less than bfloat16 rounds; and finds nothing where nothing is wrong."""
    sums = SampleSums(WorkingModel(make("resnet9").eval(), precision), [Sensitivity("xlf", 1.0)], None)
    sums.add(*data(8, batch=8)[0])
    assert [t.slow for t in sums._traversals.values()] == [set()]

    def wrong(module: nn.Module) -> Any:
        rule = rule_for(module)
        return rule and (lambda m, x, g: rule(m, x, 1.01 * g))

    monkeypatch.setattr(layer_calls, "rule_for", wrong)
    model = make("linear").eval()
    sums = SampleSums(WorkingModel(model, precision), [Sensitivity("xlf", 1.0)], None)
    sums.add(*data(4)[0])
    assert [t.slow for t in sums._traversals.values()] == [{name for name, _ in model.named_parameters()}]


def grows_by(model: nn.Module, precision: str) -> tuple[int, int]:
    """What `bytes_per_sample` says, and what saved tensors and rules really add from 4 to 12 samples."""
    sums = SampleSums(WorkingModel(model.eval(), precision), [Sensitivity("xlf", 1.0)], None)
    (x, y) = data(12, batch=12)[0]
    (t,) = sums._traversals.values()
    t.check(x, y)
    return t.bytes_per_sample(x[:2], y[:2]), (t._held(x, y) - t._held(x[:4], y[:4])) // 8


@pytest.mark.parametrize("name", ["resnet9", "tiny vit", "convnet"])
def test_memory_of_a_sample_is_that_of_many(name: str) -> None:
    full, reduced = (grows_by(make(name), precision) for precision in ("float32", "bfloat16"))
    for estimated, measured in (full, reduced):
        assert 0.8 * measured <= estimated <= 1.25 * measured
    assert reduced[0] < full[0]


def test_weights_in_half_precision_are_no_memory_of_a_sample() -> None:
    layers = [nn.Flatten(), nn.Linear(432, 2000), nn.Tanh(), nn.Linear(2000, CLASSES)]
    estimated, _ = grows_by(nn.Sequential(*layers), "bfloat16")
    assert estimated < 100_000 < 2 * 2000 * 432


def importance(precision: Any) -> Importance:
    total = {"w": torch.ones(2, dtype=torch.float64)}
    return Importance(total=total, count=3, kind="xlf", granularity="sample", precision=precision)


def test_precisions_do_not_mix() -> None:
    for combine in (Importance.__add__, Importance.__sub__):
        with pytest.raises(BadInput, match="are different quantities; they cannot be combined"):
            combine(importance("float32"), importance("bfloat16"))
    assert (importance("bfloat16") + importance("bfloat16")).precision == "bfloat16"


def test_files_name_their_precision(tmp_path: Path) -> None:
    path = tmp_path / "i.safetensors"
    importance("bfloat16").save(path)
    assert Importance.load(path).precision == "bfloat16"
    with safe_open(path, framework="pt") as file:
        header, total = file.metadata(), {"w": file.get_tensor("w")}
    save_file(total, path, metadata={**header, "precision": "int4"})
    with pytest.raises(BadInput, match=r"damaged header.*int4"):
        Importance.load(path)
    save_file(total, path, metadata={k: v for k, v in header.items() if k != "precision"})
    assert Importance.load(path).precision == "float32"


def order_of(model: nn.Module, x: Tensor) -> torch.memory_format:
    working = WorkingModel(model.eval())
    working.accept(x, torch.zeros(len(x), dtype=torch.int64), check_numbers=False)
    return working._order


def test_overlapping_convolutions_are_channels_last() -> None:
    ((x, _),) = data(2)
    assert order_of(make("resnet9"), x) == torch.channels_last
    for model in (tiny_vit(), Flat()):  # patches do not overlap
        assert order_of(model, x) == torch.contiguous_format
    assert order_of(make("convnet").double(), x.double()) == torch.contiguous_format


@pytest.mark.parametrize(("few", "many"), [(3, 16), (16, 20), (4, 6)])
def test_what_pytorch_cannot_do_channels_last_is_not_asked_of_it(few: int, many: int) -> None:
    """Weights of a strided shortcut with few channels: their gradient corrupted memory, with AVX2."""

    def network(channels: int) -> nn.Module:
        shortcut = nn.Conv2d(channels, many, 1, stride=2)
        return nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1), shortcut, nn.Flatten(), nn.Linear(36 * many, CLASSES)
        )

    model, batches = randomise(network(few)), data(10, batch=5)
    assert order_of(model, batches[0][0]) == torch.contiguous_format
    expected = reference.importances(model, batches, "xlf", "sample")
    found = estimate(model, batches, granularity="sample").mean()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 2e-5 * value.max(), name
    wide = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 32, 1, stride=2), nn.Flatten())
    assert order_of(nn.Sequential(wide, nn.Linear(36 * 32, CLASSES)), batches[0][0]) == torch.channels_last


class Viewing(ConvNet):
    """Calls view, which images in channels-last order do not allow."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return self.fc(x.view(len(x), -1).view(len(x), 4, -1).amax(2))


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_a_model_that_calls_view_keeps_the_usual_order(granularity: str) -> None:
    model, batches = Viewing(), data(5)
    assert order_of(model, batches[0][0]) == torch.contiguous_format
    expected = reference.importances(model, batches, "xlf", granularity)
    found = estimate(model, batches, granularity=granularity).mean()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 2e-5 * value.max(), name


@pytest.mark.parametrize(("kind", "granularity"), SORTS)
def test_the_order_in_memory_changes_only_rounding(
    kind: str, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batches = make("resnet9"), data(6)
    last = estimate(model, batches, kind=kind, granularity=granularity)
    turned = [(x.contiguous(memory_format=torch.channels_last), y) for x, y in batches]
    given_so = estimate(model, turned, kind=kind, granularity=granularity)
    monkeypatch.setattr(WorkingModel, "_overlaps", lambda _: False)
    usual = estimate(model, batches, kind=kind, granularity=granularity)
    assert (last.model, last.data) == (usual.model, usual.data) == (given_so.model, given_so.data)
    for name, value in usual.total.items():
        assert last.total[name].is_contiguous()
        assert torch.equal(given_so.total[name], last.total[name])
        assert (last.total[name] - value).abs().max() <= 1e-5 * value.max(), name


def test_batches_in_float32_keep_the_order_of_published_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    arranged = WorkingModel.arranged

    def noted(self: WorkingModel, x: Tensor) -> Tensor:
        seen.append(arranged(self, x).is_contiguous())
        return arranged(self, x)

    for granularity, precision in (("batch", "float32"), ("batch", "bfloat16"), ("sample", "float32")):
        with monkeypatch.context() as patch:
            patch.setattr(WorkingModel, "arranged", noted)
            estimate(make("resnet9"), data(2), granularity=granularity, precision=precision)
    assert seen[0]
    assert not any(seen[1:])


def test_columns_are_unfolded_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    windows = convolutions._windows_last

    def sized(module: Any, x: Tensor) -> Tensor:
        seen.append(len(x))
        return windows(module, x)

    monkeypatch.setattr(convolutions, "_windows_last", sized)
    sums = SampleSums(WorkingModel(make("convnet").eval()), [Sensitivity("xlf", 1.0)], None)
    sums._block = 3 * 4 * 27  # numbers of the weight, of three samples
    sums.add(*data(12, batch=12)[0])
    assert max(seen[1:]) == 3  # the first is the check


def test_kinds_of_batches_share_a_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches = make("resnet9"), data(10)
    alone = {kind: estimate(model, batches, kind=kind, granularity="batch") for kind in KINDS}
    passes: list[int] = []
    forward = WorkingModel.logits

    def counted(self: WorkingModel, parameters: Any, x: Tensor) -> Tensor:
        passes.append(len(x))
        return forward(self, parameters, x)

    monkeypatch.setattr(WorkingModel, "logits", counted)
    together = estimate_importances(model, batches, kinds=("lf", "fim", "xlf"), granularity="batch")
    assert passes == [1, 4, 4, 2]  # one sample to count the classes
    for kind, found in together.items():
        assert found.count == 3
        assert all(torch.equal(found.total[name], value) for name, value in alone[kind].total.items())
