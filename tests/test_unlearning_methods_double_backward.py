"""Layers that differentiate cheaply twice: the same function, the same derivatives, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.grad as conv_gradients
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from theriac.errors import BadInput
from theriac.unlearning.methods.double_backward import cheap_double_backward, convolve, twice_differentiable
from theriac.unlearning.models.resnet9 import ResNet9


def _settled(model: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """In float64 and eval mode, with statistics that are not those of the beginning."""
    model = model.double()
    with torch.no_grad():
        model(torch.randn(8, *shape, dtype=torch.float64))
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


class Shared(nn.Module):
    """One convolution in two chains: its BatchNorms cannot be folded into it."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 3, 3, padding=1)
        self.one = nn.Sequential(conv, nn.BatchNorm2d(3), nn.ELU())
        self.other = nn.Sequential(conv, nn.BatchNorm2d(3), nn.ELU(), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.other(self.one(x))
        return out


MODELS: dict[str, Callable[[], nn.Module]] = {
    "folded": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ELU(), nn.Flatten()),
    "no bias": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ELU(), nn.Flatten()
    ),
    "no bias, not folded": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.ELU(),
        nn.Conv2d(4, 4, 1, bias=False, groups=2),
        nn.Tanh(),
        nn.Flatten(),
    ),
    "not affine": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.ELU(), nn.Flatten()
    ),
    "strides": lambda: nn.Sequential(
        nn.Conv2d(3, 6, (3, 2), stride=(2, 3), padding=(0, 1)),
        nn.ELU(),
        nn.Conv2d(6, 4, 2, dilation=2, groups=2),
        nn.Tanh(),
        nn.Flatten(),
    ),
    "norm first": lambda: nn.Sequential(nn.BatchNorm2d(3), nn.ELU(), nn.Conv2d(3, 4, 3), nn.Flatten()),
    "shared": Shared,
    "other padding": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.ELU(),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.BatchNorm2d(4),
        nn.Tanh(),
        nn.Flatten(),
    ),
    "resnet9": lambda: ResNet9(num_classes=3, in_channels=3, widths=(2, 3, 3, 3, 4, 4, 4, 2)),
}


def derivatives(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Loss, slopes of all parameters and the images, a Hessian-vector product, a mixed derivative."""
    x, parameters = x.clone().requires_grad_(), tuple(model.parameters())
    loss = model(x).pow(3).mean()
    first = torch.autograd.grad(loss, (x, *parameters), retain_graph=True)
    (slope,) = torch.autograd.grad(model(x).pow(3).mean(), x, create_graph=True)
    direction = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    (product,) = torch.autograd.grad(slope, x, direction, retain_graph=True)
    mixed = torch.autograd.grad(slope, parameters, direction, materialize_grads=True)
    return [loss.detach(), *first, product, *mixed]


@pytest.mark.parametrize("name", MODELS)
def test_function_and_derivatives_are_those_of_pytorch(name: str) -> None:
    torch.manual_seed(0)
    shape = (3, 12, 13) if name == "resnet9" else (3, 9, 11)
    model = _settled(MODELS[name](), shape)
    x = torch.randn(5, *shape, dtype=torch.float64)
    expected = derivatives(model, x)
    with cheap_double_backward(model):
        found = derivatives(model, x)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    assert not any("forward" in vars(module) for module in model.modules())


def test_second_derivatives_in_the_weights_too() -> None:
    torch.manual_seed(1)
    model = _settled(MODELS["folded"](), (3, 6, 6))
    x = torch.randn(4, 3, 6, 6, dtype=torch.float64)

    def curvature() -> tuple[Tensor, ...]:
        parameters = tuple(model.parameters())
        slopes = torch.autograd.grad(model(x).pow(3).mean(), parameters, create_graph=True)
        return torch.autograd.grad(sum((slope.sin().sum() for slope in slopes), torch.zeros(())), parameters)

    expected = curvature()
    with cheap_double_backward(model):
        found = curvature()
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_training_mode_is_that_of_pytorch() -> None:
    torch.manual_seed(0)
    model = MODELS["folded"]().train()
    x = torch.randn(6, 3, 8, 8)
    expected = model(x)
    with cheap_double_backward(model):
        torch.testing.assert_close(model(x), expected)
    assert model[1].num_batches_tracked == 2  # type: ignore[index]


def test_the_gradient_of_the_weight_is_not_computed_where_nobody_wants_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bool] = []
    real = conv_gradients.conv2d_weight

    def noticed(*given: Any) -> Tensor:
        asked.append(True)
        return real(*given)

    monkeypatch.setattr(conv_gradients, "conv2d_weight", noticed)
    model = MODELS["folded"]()
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with cheap_double_backward(model.eval()):
        loss = model(x).pow(2).sum()
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        torch.autograd.grad(slope, x, torch.ones_like(x), retain_graph=True)
        assert asked == []
        torch.autograd.grad(slope, tuple(model.parameters()), torch.ones_like(x), allow_unused=True)
    assert asked == [True]


def test_gradcheck_of_the_convolution() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2).double()
    x = torch.randn(2, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    assert conv.bias is not None
    inputs = (x, conv.weight, conv.bias)
    assert torch.autograd.gradcheck(lambda *given: convolve(conv, *given), inputs)
    assert torch.autograd.gradgradcheck(lambda *given: convolve(conv, *given), inputs)


def test_a_hooked_layer_is_left_alone() -> None:
    model, seen = MODELS["folded"]().eval(), []
    model[1].register_forward_hook(lambda *a: seen.append(a[2]))  # type: ignore[index]
    x = torch.randn(2, 3, 8, 8)
    expected = model(x)
    with cheap_double_backward(model):
        torch.testing.assert_close(model(x), expected)
    torch.testing.assert_close(seen[1], seen[0])


def test_an_error_leaves_nothing_behind() -> None:
    model = MODELS["folded"]()
    with pytest.raises(ZeroDivisionError), cheap_double_backward(model):
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())


class Attends(nn.Module):
    """Tokens that attend to each other, through a hard sigmoid: fast kernels differentiate once only."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.heads = nn.Conv2d(3, 8, 3, stride=3, bias=False), nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        q, k, v = self.heads(tokens).chunk(3, -1)
        return F.hardsigmoid(F.scaled_dot_product_attention(q, k, v)).flatten(1)


class Once(torch.autograd.Function):
    """The square, by a kernel whose author gave a first derivative only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * slope


def test_attention_and_hard_sigmoids_differentiate_twice() -> None:
    torch.manual_seed(0)
    model = _settled(Attends(), (3, 9, 9))
    x = torch.randn(4, 3, 9, 9, dtype=torch.float64)
    with twice_differentiable():
        found = derivatives(model, x)
    loss = model(x).pow(3).mean()
    torch.testing.assert_close(found[0], loss.detach(), rtol=1e-9, atol=1e-12)
    step = 1e-5 * torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    ahead, behind = (_slope(model, x + sign * step) for sign in (1, -1))
    product = found[2 + len(list(model.parameters()))]
    torch.testing.assert_close(product, (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-9)


def _slope(model: nn.Module, x: Tensor) -> Tensor:
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model(x).pow(3).mean(), x)
    return slope


def test_an_operation_without_a_second_derivative_is_one_line_with_the_remedy() -> None:
    x = torch.ones(2, requires_grad=True)
    (slope,) = torch.autograd.grad(Once.apply(x).pow(2).sum(), x, create_graph=True)
    with pytest.raises(BadInput, match=r"no second derivative.*iterations=0"), twice_differentiable():
        slope.sum().backward()


@pytest.mark.parametrize(
    "said",
    [
        "derivative for aten::grid_sampler_2d_backward is not implemented",
        "the derivative for 'grid_sampler_2d_backward' is not implemented.",
    ],
)
def test_the_operation_without_a_second_derivative_is_named(said: str) -> None:
    with pytest.raises(BadInput, match="'grid_sampler_2d' has no second derivative"), twice_differentiable():
        raise RuntimeError(said)


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="mine"), twice_differentiable():
        raise RuntimeError("mine")
