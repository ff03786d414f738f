"""Layers that differentiate cheaply twice: the same function, the same derivatives, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.grad as conv_gradients
from torch import Tensor, nn

from theriac.unlearning.double_backward import cheap_double_backward, convolve
from theriac.unlearning.resnet9 import ResNet9


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
