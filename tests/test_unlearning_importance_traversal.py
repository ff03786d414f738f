"""Whole models against a float64 loop of plain autograd, and what takes the slow path in each."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.tests import importance_models as models, reference
from theriac.tests.importance_models import CLASSES, IMAGE, ConvNet, data, make, randomise
from theriac.unlearning.importance import layer_calls, sample as sample_importance
from theriac.unlearning.importance.estimate import (
    Importance,
    estimate_importance,
    estimate_importances,
)
from theriac.unlearning.importance.layer_gradients import rule_for
from theriac.unlearning.importance.sample import SampleSums
from theriac.unlearning.importance.sensitivities import Sensitivity, norm
from theriac.unlearning.importance.traversal import Traversal
from theriac.unlearning.importance.working_model import WorkingModel
from theriac.unlearning.kinds import KINDS, Kind
from theriac.unlearning.memory import LARGEST

Case = tuple[Callable[[], nn.Module], int, set[str]]
estimate: Any = estimate_importance


def convnext(**options: Any) -> nn.Module:
    return ConvNeXt(num_classes=CLASSES, depths=(1, 1, 1, 1), dims=(4, 6, 8, 8), patch_size=2, **options)


def resnet(block: Any, channels: tuple[int, ...]) -> nn.Module:
    return ResNet(block, (1, 1, 1, 1), num_classes=CLASSES, channels=channels, stem_width=4)


def swin() -> nn.Module:
    small: dict[str, Any] = {"embed_dim": 4, "depths": (2, 1), "num_heads": (1, 2), "window_size": 4}
    return SwinTransformer(img_size=16, patch_size=2, num_classes=CLASSES, **small)


def vit(name: str, **options: Any) -> nn.Module:
    small: dict[str, Any] = {"img_size": 12, "patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 2}
    model: nn.Module = timm.create_model(name, num_classes=CLASSES, **small, **options)
    return model


def names(pattern: str, *places: str) -> set[str]:
    return {pattern.format(place) for place in places}


GAMMAS = names("stages.{}.blocks.0.gamma", "0", "1", "2", "3")
BIASES = names("layers.{}.attn.relative_position_bias_table", "0.blocks.0", "0.blocks.1", "1.blocks.0")
IN = {"layer.in_proj_weight", "layer.in_proj_bias", "layer.out_proj.weight", "layer.out_proj.bias"}
IN_ENCODER = {name.replace("layer.", "layer.self_attn.") for name in IN}
SEQUENCE_FIRST = names("layer.linear{}.weight", "1", "2") | names("layer.linear{}.bias", "1", "2")
SEQUENCE_FIRST |= names("layer.norm{}.weight", "1", "2") | names("layer.norm{}.bias", "1", "2")

ARCHITECTURES: dict[str, Case] = {
    "resnet9": (models.resnet9, 12, set()),
    "wide resnet": (models.wide_resnet, 12, set()),
    "vgg": (models.small_vgg, 12, set()),
    "timm vit": (lambda: vit("vit_tiny_patch16_224"), 12, set()),
    "timm vit with everything": (
        lambda: vit("vit_tiny_patch16_224", init_values=0.3, qk_norm=True),
        12,
        set(),
    ),
    "timm deit3": (lambda: vit("deit3_small_patch16_224"), 12, set()),
    "timm convnext": (convnext, 32, GAMMAS),
    "timm convnext of convolutions": (lambda: convnext(conv_mlp=True), 32, GAMMAS),
    "timm convnext v2": (lambda: convnext(use_grn=True, ls_init_value=None), 32, set()),
    "timm swin": (swin, 16, BIASES),
    "timm resnet": (lambda: resnet(BasicBlock, (4, 6, 6, 8)), 16, set()),
    "timm bottlenecks": (lambda: resnet(Bottleneck, (2, 2, 3, 3)), 16, set()),
    "timm mobilenet": (lambda: timm.create_model("mobilenetv3_small_050", num_classes=CLASSES), 24, set()),
}

ODD: dict[str, Case] = {
    "tokens and scales": (models.DirectTokens, 12, {"scale", "factor"}),
    "row as a matrix": (lambda: models.RowVector("matrix"), 12, {"row", "position"}),
    "row as a sum": (lambda: models.RowVector("sum"), 12, {"row", "position"}),
    "row that is reshaped": (lambda: models.RowVector("view"), 12, {"row", "position"}),
    "shared": (models.Shared, 12, set()),
    "direct": (models.Direct, 12, {"scale", "a", "b"}),
    "sequence first": (models.SequenceFirst, 12, {"inner.weight", "inner.bias"}),
    "windows": (models.Windows, 12, set()),
    "frames": (models.Frames, 12, {"conv.weight", "conv.bias", "norm.weight", "norm.bias"}),
    "attention": (lambda: models.Attention("attention", True), 12, IN),
    "attention, sequence first": (lambda: models.Attention("attention", False), 12, IN),
    "encoder": (lambda: models.Attention("encoder", True), 12, IN_ENCODER),
    "encoder, sequence first": (
        lambda: models.Attention("encoder", False),
        12,
        IN_ENCODER | SEQUENCE_FIRST,
    ),
    "tied embedding": (lambda: models.TiedOutput(False), 12, set()),
    "tied embedding by hand": (lambda: models.TiedOutput(True), 12, {"tokens.embedding.weight"}),
    "unused": (models.Unused, 12, {"idle"}),
    "cut": (models.Cut, 12, {"named.weight", "named.bias"}),
    "centred": (models.Centred, 12, {"first.weight", "first.bias", "head.weight", "head.bias"}),
    "overwriting": (models.Overwriting, 12, set()),
}


def built(make_model: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(make_model()).eval()


def sums_of(model: nn.Module, x: Tensor, y: Tensor, chunk_size: int | None = None) -> SampleSums:
    kinds = [Sensitivity(kind) for kind in KINDS]
    sums = SampleSums(WorkingModel(model), kinds, chunk_size)
    sums.add(x.clone(), y)
    return sums


def slow_in(sums: SampleSums) -> list[set[str]]:
    return [traversal.slow for traversal in sums._traversals.values()]


def assert_exact(model: nn.Module, side: int, slow: set[str]) -> None:
    """Within 1e-9 and 2e-5 of a tensor's largest entry, or of what is rounding beside the whole model's."""
    torch.manual_seed(1)
    x, y = torch.randn(5, 3, side, side), torch.randint(0, CLASSES, (5,))
    expected = [reference.importances(model, [(x.clone(), y)], kind, "sample") for kind in KINDS]
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 2e-5)):
        sums = sums_of(copy.deepcopy(model).to(dtype), x.to(dtype), y)
        assert slow_in(sums) == [slow] * 2
        for total, values in zip(sums.totals, expected, strict=True):
            largest: float = max(value.max().item() for value in values.values())
            assert total.keys() == values.keys()
            for name, value in values.items():
                error = (total[name] / 5 - value).abs().max()
                assert error <= tolerance * max(value.max().item(), tolerance * largest), name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_exact(name: str) -> None:
    make_model, side, slow = ARCHITECTURES[name]
    assert_exact(built(make_model), side, slow)


@pytest.mark.parametrize("name", ODD)
def test_odd_models_are_exact(name: str) -> None:
    make_model, side, slow = ODD[name]
    assert_exact(built(make_model), side, slow)


def assert_close(found: Importance, expected: Importance, tolerance: float = 2e-6) -> None:
    assert (found.count, found.kind, found.exponent) == (expected.count, expected.kind, expected.exponent)
    for name, value in expected.total.items():
        assert (found.total[name] - value).abs().max() <= tolerance * value.max(), name


@pytest.mark.parametrize("exponent", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("name", ["resnet9", "tiny vit", "direct"])
def test_kinds_asked_together_are_those_asked_alone(name: str, exponent: float) -> None:
    model, batches = make(name), data(6)
    together = estimate_importances(model, batches, kinds=("xlf", "fim", "lf"), exponent=exponent)
    assert list(together) == ["xlf", "fim", "lf"]
    for kind, found in together.items():
        w = exponent if kind == "xlf" else None
        assert_close(found, estimate(model, batches, kind=kind, exponent=w))


@pytest.mark.parametrize(
    ("kinds", "passes"), [(("lf", "xlf"), 1), (("fim",), 1), (("fim", "lf", "xlf"), 2), (("xlf", "fim"), 2)]
)
def test_backward_passes(kinds: tuple[Kind, ...], passes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batches, backward, calls = make("resnet9"), data(12), Tensor.backward, []
    sizes = []

    def counted(self: Tensor, *arguments: Any, **options: Any) -> None:
        calls.append(1)
        backward(self, *arguments, **options)

    fast = Traversal._fast

    def sized(self: Traversal, x: Tensor, y: Tensor) -> Any:
        sizes.append(len(x))
        return fast(self, x, y)

    monkeypatch.setattr(Tensor, "backward", counted)
    monkeypatch.setattr(Traversal, "_fast", sized)
    sums = SampleSums(WorkingModel(model.eval()), [Sensitivity(k) for k in kinds], 4)
    sums.add(*batches[0])
    calls.clear()
    sizes.clear()
    for x, y in batches[1:]:
        sums.add(x, y)
    assert len(calls) == 2 * passes
    assert sizes == [4] * 2 * passes


@pytest.mark.parametrize("chunk_size", [1, 3, 7])
@pytest.mark.parametrize("name", ["sequence first", "tokens and scales", "row as a sum", "centred", "cut"])
def test_chunks_change_nothing(name: str, chunk_size: int) -> None:
    model, ((x, y),) = built(ODD[name][0]).double(), data(7, batch=7)
    chunked, whole = (sums_of(model, x.double(), y, size) for size in (chunk_size, None))
    for a, b in zip(chunked.totals, whole.totals, strict=True):
        for parameter, value in b.items():
            torch.testing.assert_close(a[parameter], value, rtol=1e-10, atol=1e-12)


def test_a_batch_of_one_is_checked_again_when_more_come() -> None:
    model, ((x, y),) = built(models.SequenceFirst), data(8, batch=8)
    sums = sums_of(model, x[:1], y[:1])
    assert slow_in(sums) == [set(), set()]
    sums.add(x[1:], y[1:])
    assert slow_in(sums) == [{"inner.weight", "inner.bias"}] * 2
    whole = sums_of(model, x, y)
    for a, b in zip(sums.totals, whole.totals, strict=True):
        assert all(torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-7) for name in b)


def count_checks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    checked: list[int] = []
    check = Traversal._check

    def counted(self: Traversal, x: Tensor, y: Tensor) -> None:
        checked.append(len(x))
        check(self, x, y)

    monkeypatch.setattr(Traversal, "_check", counted)
    return checked


def test_the_check_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = count_checks(monkeypatch)
    estimate_importance(make("convnet"), data(40, batch=20))
    assert checked == [8]
    checked.clear()
    estimate_importance(make("convnet"), [*data(1), *data(6, batch=3)])
    assert checked == [1, 3]


def test_samples_without_gradients_do_not_pass_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = count_checks(monkeypatch)
    model = nn.Sequential(nn.Flatten(), nn.Linear(432, CLASSES, bias=False), nn.ReLU()).eval()
    x, y = data(4)[0]
    estimate_importance(model, [(torch.zeros_like(x), y), (x, y), (x, y)])
    assert checked == [4, 4]


class Blank(ConvNet):
    """Logits of 0 for an image of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) - super().forward(torch.zeros_like(x))


@pytest.mark.parametrize("exponent", [0.5, 1.0, 3.0])
def test_an_image_of_zeros_adds_nothing(exponent: float) -> None:
    model, ((x, y),) = built(Blank), data(4)
    x[2] = 0
    kinds: tuple[Kind, ...] = ("lf", "xlf")
    found = estimate_importances(model, [(x, y)], kinds=kinds, exponent=exponent)
    rest = estimate_importances(model, [(x[:2], y[:2]), (x[3:], y[3:])], kinds=kinds, exponent=exponent)
    for kind in kinds:
        assert found[kind].count == 4
        for name, value in rest[kind].total.items():
            torch.testing.assert_close(found[kind].total[name], value, rtol=1e-4, atol=1e-6)
    alone = estimate_importances(model, [(x[2:3], y[2:3])], kinds=kinds, exponent=exponent)
    assert all((value == 0).all() for kind in kinds for value in alone[kind].total.values())


def test_an_empty_batch_adds_nothing() -> None:
    sums = sums_of(built(ConvNet), torch.empty(0, *IMAGE), torch.empty(0, dtype=torch.int64))
    assert sums.count == 0
    assert all((value == 0).all() for total in sums.totals for value in total.values())


@pytest.mark.parametrize(("make_model", "least"), [(models.resnet9, 5), (models.Frames, 2)])
def test_chunks_fit_into_memory(
    make_model: Callable[[], nn.Module], least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, ((x, y),) = built(make_model), data(20, batch=20)
    alone = sums_of(model, x, y)
    needs = max(t.bytes_per_sample(x[:2], y[:2]) for t in alone._traversals.values())
    assert x[0].nbytes < needs < 100 * x[0].nbytes
    sizes: list[int] = []
    gradients = Traversal.gradients

    def sized(self: Traversal, x: Tensor, y: Tensor) -> Any:
        sizes.append(len(x))
        return gradients(self, x, y)

    monkeypatch.setattr(Traversal, "gradients", sized)
    monkeypatch.setattr(sample_importance, "chunk_budget", lambda _: 5 * needs + 1)
    small = sums_of(model, x, y)
    assert all(least <= size <= 5 for size in sizes)
    assert sum(sizes) == 2 * 20
    for a, b in zip(small.totals, alone.totals, strict=True):
        assert all(torch.allclose(a[name], b[name], rtol=1e-4, atol=1e-8) for name in b)


def test_out_of_memory_before_the_first_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> int:
        raise torch.OutOfMemoryError("simulated")

    monkeypatch.setattr(Traversal, "bytes_per_sample", fails)
    with pytest.raises(BadInput, match="gradients of a single sample"):
        estimate_importance(built(ConvNet), data(3))


def test_chunks_are_at_least_one_and_at_most_the_largest(monkeypatch: pytest.MonkeyPatch) -> None:
    for room, size in ((0, 1), (1 << 60, LARGEST)):
        monkeypatch.setattr(sample_importance, "chunk_budget", lambda _, room=room: room)
        assert sums_of(built(ConvNet), *data(3)[0]).chunk.size == size


@pytest.mark.parametrize("name", ["sequence first", "frames", "cut", "centred", "row as a sum"])
def test_the_slow_path_is_said_once(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        estimate_importances(built(ODD[name][0]), data(30, batch=10), kinds=("fim", "lf", "xlf"))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert all("take a slower, equally exact path (" in message for message in said)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


class UnusedNeedsItem(models.NeedsItem):
    """Its only slow parameter is idle, and samples are taken one by one."""

    def forward(self, x: Tensor) -> Tensor:
        return ConvNet.forward(self, x) * (1.0 if x.sum().item() < 1e9 else 0.0)


def test_idle_parameters_of_a_model_that_cannot_be_vectorised() -> None:
    assert_exact(built(UnusedNeedsItem), 12, {"scale"})


class Failing(ConvNet):
    """Fails where several samples come."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        if len(x) > 1:
            raise KeyError("no more")
        return out


def test_hooks_are_removed() -> None:
    model, failing = built(lambda: resnet(BasicBlock, (4, 6, 6, 8))), built(Failing)
    estimate_importance(model, data(3))
    with pytest.raises(KeyError):
        estimate_importance(failing, data(3))
    with pytest.raises(KeyError):
        Traversal(failing, dict(failing.named_parameters()), {}, norm)._fast(*data(3)[0])
    assert hooks(model) == hooks(failing) == 0


def test_the_check_sees_what_a_wrong_rule_does(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(module: nn.Module) -> Any:
        rule = rule_for(module)
        return rule and (lambda m, x, g: rule(m, x, 1.01 * g))

    monkeypatch.setattr(layer_calls, "rule_for", wrong)
    model = built(lambda: nn.Sequential(nn.Flatten(), nn.Linear(432, 4), nn.Tanh(), nn.Linear(4, CLASSES)))
    ((x, y),) = data(4)
    assert slow_in(sums_of(model, x, y)) == [{name for name, _ in model.named_parameters()}] * 2
