"""Every layer with a rule against a float64 loop of plain autograd."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm.layers
import torch
from torch import Tensor, nn

from theriac.tests import reference
from theriac.tests.importance_models import CLASSES, Projected, Tokens
from theriac.unlearning.importance.layer_gradients import rule_for
from theriac.unlearning.importance.per_sample import Given, Lookup, Product, sums_of_sizes
from theriac.unlearning.importance.sample import SampleSums
from theriac.unlearning.importance.sensitivities import Sensitivity
from theriac.unlearning.importance.working_model import WorkingModel
from theriac.unlearning.kinds import KINDS

layers: Any = timm.layers
Shape = tuple[int, ...]
Layer = Callable[[], nn.Module]

LINEAR: dict[str, tuple[Layer, Shape]] = {
    "linear on [N, d]": (lambda: nn.Linear(5, 4), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 4, bias=False), (5,)),
    "linear on [N, T, d]": (lambda: nn.Linear(5, 4), (3, 5)),
    "linear on [N, A, B, d]": (lambda: nn.Linear(5, 4), (2, 3, 5)),
    "linear with one input": (lambda: nn.Linear(1, 1), (1,)),
}

CONVOLUTIONS: dict[str, tuple[Layer, Shape]] = {
    "conv1d": (lambda: nn.Conv1d(2, 4, 3, stride=2, padding=1, groups=2), (2, 7)),
    "conv1d circular": (lambda: nn.Conv1d(2, 3, 3, padding=2, padding_mode="circular"), (2, 7)),
    "conv1d same": (lambda: nn.Conv1d(2, 3, 4, padding="same", dilation=2), (2, 7)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 7)),
    "conv2d without bias": (lambda: nn.Conv2d(3, 4, 3, bias=False), (3, 6, 7)),
    "conv2d stride": (lambda: nn.Conv2d(3, 4, 3, stride=(2, 3), padding=1), (3, 6, 7)),
    "conv2d oblong": (lambda: nn.Conv2d(3, 4, (3, 2), padding=(0, 1), dilation=(2, 1)), (3, 6, 7)),
    "conv2d same": (lambda: nn.Conv2d(3, 4, (3, 4), padding="same", dilation=(1, 2)), (3, 6, 7)),
    "conv2d valid": (lambda: nn.Conv2d(3, 4, 3, padding="valid", dilation=2), (3, 6, 7)),
    "conv2d reflect": (lambda: nn.Conv2d(3, 4, 3, padding=(1, 2), padding_mode="reflect"), (3, 6, 7)),
    "conv2d circular": (lambda: nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular", groups=2), (4, 6, 7)),
    "conv2d replicate": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="replicate"), (3, 6, 7)),
    "conv2d reflect same": (
        lambda: nn.Conv2d(3, 4, (2, 3), padding="same", padding_mode="reflect"),
        (3, 6, 7),
    ),
    "conv2d groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1, stride=2), (4, 6, 7)),
    "conv2d depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, padding=1), (4, 6, 7)),
    "conv2d 1x1": (lambda: nn.Conv2d(3, 4, 1), (3, 6, 7)),
    "conv2d 1x1 groups": (lambda: nn.Conv2d(4, 4, 1, groups=2), (4, 6, 7)),
    "conv2d 1x1 strided": (lambda: nn.Conv2d(3, 4, 1, stride=2), (3, 6, 7)),
    "conv2d 1x1 padded": (lambda: nn.Conv2d(3, 4, 1, padding=1), (3, 6, 7)),
    "conv2d to one pixel": (lambda: nn.Conv2d(3, 4, (6, 7)), (3, 6, 7)),
    "conv3d": (lambda: nn.Conv3d(2, 3, (2, 3, 2), stride=(1, 2, 1), padding=(1, 0, 2)), (2, 3, 5, 4)),
    "conv3d groups": (lambda: nn.Conv3d(2, 4, 2, groups=2, dilation=(1, 2, 1)), (2, 3, 5, 4)),
    "conv3d replicate": (lambda: nn.Conv3d(2, 3, 3, padding=1, padding_mode="replicate"), (2, 3, 5, 4)),
    "conv3d 1x1": (lambda: nn.Conv3d(2, 3, 1, bias=False), (2, 3, 5, 4)),
    "timm same": (lambda: layers.Conv2dSame(3, 4, (3, 2), stride=(2, 3), dilation=(1, 2)), (3, 6, 8)),
}

NORMS: dict[str, tuple[Layer, Shape]] = {
    "batchnorm1d on [N, C]": (lambda: nn.BatchNorm1d(5), (5,)),
    "batchnorm1d on [N, C, L]": (lambda: nn.BatchNorm1d(5), (5, 3)),
    "batchnorm2d": (lambda: nn.BatchNorm2d(3, eps=0.1), (3, 4, 5)),
    "batchnorm3d": (lambda: nn.BatchNorm3d(3), (3, 2, 4, 5)),
    "layernorm": (lambda: nn.LayerNorm(5), (5,)),
    "layernorm on [N, T, d]": (lambda: nn.LayerNorm(5, eps=0.1), (3, 5)),
    "layernorm of two dimensions": (lambda: nn.LayerNorm((3, 5)), (2, 3, 5)),
    "layernorm without bias": (lambda: nn.LayerNorm(5, bias=False), (3, 5)),
    "rmsnorm": (lambda: nn.RMSNorm(5), (3, 5)),
    "rmsnorm of two dimensions": (lambda: nn.RMSNorm((3, 5), eps=0.1), (2, 3, 5)),
    "groupnorm": (lambda: nn.GroupNorm(2, 4, eps=0.1), (4, 3, 2)),
    "groupnorm on [N, C]": (lambda: nn.GroupNorm(2, 6), (6,)),
    "timm layernorm": (lambda: layers.LayerNorm(5), (3, 5)),
    "timm layernorm2d": (lambda: layers.LayerNorm2d(5), (5, 3, 2)),
    "timm groupnorm": (lambda: layers.GroupNorm(4, 2), (4, 3, 2)),
    "timm groupnorm1": (lambda: layers.GroupNorm1(4), (4, 3, 2)),
    "timm rmsnorm": (lambda: layers.RmsNorm(5), (3, 5)),
    "timm batchnorm and relu": (lambda: layers.BatchNormAct2d(3), (3, 4, 5)),
    "timm batchnorm and silu": (
        lambda: layers.BatchNormAct2d(3, act_layer=nn.SiLU, inplace=False),
        (3, 4, 5),
    ),
    "timm batchnorm alone": (lambda: layers.BatchNormAct2d(3, apply_act=False), (3, 4, 5)),
    "timm response norm": (lambda: layers.grn.GlobalResponseNorm(5), (3, 2, 5)),
    "timm response norm of channels": (
        lambda: layers.grn.GlobalResponseNorm(5, channels_last=False),
        (5, 3, 2),
    ),
}

OTHERS: dict[str, tuple[Layer, Shape]] = {
    "embedding": (lambda: Tokens(nn.Embedding(6, 4)), (9,)),
    "embedding on [N, A, B]": (lambda: Tokens(nn.Embedding(6, 4)), (3, 3)),
    "embedding with padding": (lambda: Tokens(nn.Embedding(6, 4, padding_idx=2)), (9,)),
    "embedding, sparse": (lambda: Tokens(nn.Embedding(6, 4, sparse=True)), (9,)),
    "timm linear": (lambda: layers.Linear(5, 4), (3, 5)),
    "timm layer scale": (lambda: layers.LayerScale(5, 0.5), (3, 5)),
    "timm layer scale 2d": (lambda: layers.LayerScale2d(5, 0.5), (5, 3, 2)),
}

FAST = {**LINEAR, **CONVOLUTIONS, **NORMS, **OTHERS}

SLOW: dict[str, tuple[Layer, Shape]] = {
    "transposed convolution": (lambda: nn.ConvTranspose2d(3, 2, 3), (3, 4, 4)),
    "prelu": (lambda: nn.PReLU(3), (3, 4)),
    "standardised convolution": (lambda: layers.StdConv2d(3, 2, 3), (3, 4, 4)),
    "layer scale in place": (
        lambda: nn.Sequential(nn.Tanh(), layers.LayerScale(5, 1.0, inplace=True)),
        (3, 5),
    ),
    "embedding by frequency": (lambda: Tokens(nn.Embedding(6, 4, scale_grad_by_freq=True)), (1,)),
    "batch statistics": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (3, 4, 4)),
}


def worst(layer: Layer, shape: Shape, dtype: torch.dtype, slow: bool = False) -> float:
    """Largest error of all kinds, relative to the largest entry of each parameter."""
    torch.manual_seed(0)
    model = Projected(layer(), shape).eval()
    x, y = torch.randn(5, *shape), torch.randint(0, CLASSES, (5,))
    kinds = [Sensitivity(kind) for kind in KINDS]
    sums = SampleSums(WorkingModel(copy.deepcopy(model).to(dtype)), kinds, None)
    sums.add(x.to(dtype), y)
    for traversal in sums._traversals.values():
        assert traversal.slow == ({name for name, _ in model.named_parameters()} if slow else set())
    errors = []
    for kind, total in zip(KINDS, sums.totals, strict=True):
        for name, value in reference.importances(model, [(x, y)], kind, "sample").items():
            assert value.max() > 0
            assert total[name].shape == value.shape
            errors.append(float((total[name] / 5 - value).abs().max() / value.max()))
    return max(errors)


@pytest.mark.parametrize("name", FAST)
def test_layers_with_a_rule_are_exact(name: str) -> None:
    assert worst(*FAST[name], torch.float64) <= 1e-9
    assert worst(*FAST[name], torch.float32) <= 2e-5


@pytest.mark.parametrize("name", SLOW)
def test_layers_without_a_rule_are_exact(name: str) -> None:
    assert worst(*SLOW[name], torch.float64, slow=True) <= 1e-9


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm2d(3, affine=False),
        nn.LayerNorm((3, 3, 5), elementwise_affine=False),
        nn.GroupNorm(1, 3, affine=False),
    ],
)
def test_layers_without_parameters_pass_gradients_on(layer: nn.Module) -> None:
    def around() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 3, 2), copy.deepcopy(layer), nn.Conv2d(3, 2, 2))

    assert worst(around, (3, 4, 6), torch.float64) <= 1e-9


def test_a_forward_pass_of_ones_own_has_no_rule() -> None:
    class Doubled(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(2 * input)

    class Renamed(nn.Linear):
        pass

    class LayerNorm2d(nn.LayerNorm):
        """Has the name of a layer of timm's, and nothing else of it."""

    assert rule_for(Doubled(2, 2)) is None
    assert rule_for(Renamed(2, 2)) is rule_for(nn.Linear(2, 2)) is not None
    assert rule_for(LayerNorm2d(2)) is rule_for(nn.LayerNorm(2))
    assert worst(lambda: Doubled(5, 4), (5,), torch.float64, slow=True) <= 1e-9


def by_hand(contributions: list[Tensor], weights: Tensor, squared: bool) -> Tensor:
    rows = torch.stack(contributions).sum(0)
    sizes = rows.square() if squared else rows.abs()
    return torch.stack([sum(w * s for w, s in zip(ws, sizes, strict=True)) for ws in weights])


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("budget", [1, 25, 10**6])
@pytest.mark.parametrize("positions", [1, 4])
@pytest.mark.parametrize("uses", [1, 2])
def test_sums_of_sizes(uses: int, positions: int, budget: int, squared: bool) -> None:
    torch.manual_seed(1)
    left, right = torch.randn(7, 1, 3, positions), torch.randn(7, 1, 4, positions)
    product = Product(left, right, (3, 2, 2))
    dense = (left @ right.mT).reshape(7, 3, 2, 2)
    other = torch.randn(7, 3, 2, 2)
    kept = other.clone()
    weights = torch.rand(2, 7)
    contributions: list[Any] = [product, Given(other)][:uses]
    found = sums_of_sizes(contributions, weights, squared=squared, budget=budget)
    torch.testing.assert_close(found, by_hand([dense, other][:uses], weights, squared))
    turned = sums_of_sizes(contributions[::-1], weights, squared=squared, budget=budget)
    torch.testing.assert_close(turned, found)
    assert torch.equal(other, kept)


def test_rank_one_products_with_groups_are_not_taken_for_outer_products() -> None:
    torch.manual_seed(1)
    left, right = torch.randn(3, 2, 2, 1), torch.randn(3, 2, 4, 1)
    found = sums_of_sizes([Product(left, right, (4, 4))], torch.ones(1, 3), squared=False, budget=99)
    torch.testing.assert_close(found[0], (left @ right.mT).reshape(3, 4, 4).abs().sum(0))


def test_repeated_tokens_add_up_before_the_sign_is_dropped() -> None:
    indices = torch.tensor([[0, 1, 0], [2, 2, 2]])
    values = torch.tensor([[[1.0], [2.0], [-3.0]], [[1.0], [1.0], [-2.0]]])
    found = sums_of_sizes([Lookup(indices, values, (4, 1))], torch.ones(1, 2), squared=False, budget=99)
    assert found[0].flatten().tolist() == [2.0, 2.0, 0.0, 0.0]


def test_parameters_without_entries() -> None:
    found = sums_of_sizes([Given(torch.zeros(3, 0, 2))], torch.ones(2, 3), squared=False, budget=99)
    assert found.shape == (2, 0, 2)
