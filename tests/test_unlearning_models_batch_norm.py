"""Gradients of batch and instance normalisation for images in every order of memory."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from theriac.tests.importance_models import randomise
from theriac.unlearning.models.batch_norm import SoundBatchNorm, sound_batch_norm

NORMS: dict[str, Callable[[], nn.Module]] = {
    "batch norm": lambda: nn.BatchNorm2d(4).eval(),
    "batch norm of the batch": lambda: nn.BatchNorm2d(4),
    "no scale": lambda: nn.BatchNorm2d(4, affine=False).eval(),
    "instance norm": lambda: nn.InstanceNorm2d(4, affine=True),
    "instance norm, statistics": lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True).eval(),
}
SHAPES = [(1, 4, 3, 2), (3, 4, 3, 1), (3, 4, 1, 3), (2, 4, 3, 2)]


def layouts(values: Tensor) -> Iterator[Tensor]:
    """The same numbers in the order of images and of tokens; where a size is 1, with strides that differ."""
    n, c, h, w = values.shape
    for plain in ([c * h * w, h * w, w, 1], [c * h * w, 1, w * c, c], [c, 1, w * n * c, n * c]):
        strides = list(plain)
        ones = [place for place in range(4) if values.shape[place] == 1]
        for odd in itertools.product((None, 1, c), repeat=len(ones)):
            for place, stride in zip(ones, odd, strict=True):
                strides[place] = plain[place] if stride is None else stride
            yield torch.empty_strided(values.shape, strides, dtype=values.dtype).copy_(values)


def gradients(model: nn.Module, x: Tensor, outer: Tensor) -> list[Tensor]:
    model, x = copy.deepcopy(model), x.detach().requires_grad_()
    with sound_batch_norm(model):
        y = model(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *model.parameters()], outer)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NORMS)
def test_every_order_of_memory_gives_the_same_gradients(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = randomise(NORMS[name]().double())
    values, outer = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    expected = gradients(model, values, outer)  # contiguous: right in PyTorch itself
    for x, g in itertools.product(layouts(values), layouts(outer)):
        for found, right in zip(gradients(model, x, g), expected, strict=True):
            torch.testing.assert_close(found.reshape(right.shape), right, rtol=1e-9, atol=1e-12)


class Hybrid(nn.Module):
    """Feature maps of a convolution become tokens, so that their gradients come back in another order."""

    def __init__(self, norm: Callable[[], nn.Module] = lambda: nn.BatchNorm2d(8)) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, stride=2, padding=1), norm()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.qkv, self.out, self.head = nn.Linear(8, 24), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.norm(self.conv(x))).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        q, k, v = self.qkv(x).chunk(3, -1)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v))
        return self.head(x[:, 0])


def slope(model: nn.Module, x: Tensor, direction: dict[str, Tensor], step: float = 1e-6) -> float:
    """Difference quotient of the summed norms of the logits: no backward pass takes part."""
    losses = []
    for sign in (1, -1):
        moved = {name: p.detach() + sign * step * direction[name] for name, p in model.named_parameters()}
        losses.append(float(functional_call(model, moved, (x,)).norm(dim=1).sum()))
    return (losses[0] - losses[1]) / (2 * step)


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_gradients_of_single_images_are_the_slope_of_the_loss(norm: Any) -> None:
    torch.manual_seed(0)
    model = randomise(Hybrid(lambda: norm(8, affine=True))).double().eval()
    for x in torch.randn(3, 1, 3, 8, 8, dtype=torch.float64):
        parameters = dict(model.named_parameters())
        with sound_batch_norm(model):
            norms = model(x).norm(dim=1).sum()
        found = dict(zip(parameters, torch.autograd.grad(norms, list(parameters.values())), strict=True))
        for name, parameter in parameters.items():
            direction = {n: torch.zeros_like(p) for n, p in parameters.items()}
            direction[name] = torch.randn_like(parameter)
            expected = slope(model, x, direction)
            assert float((found[name] * direction[name]).sum()) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_vectorised_gradients_are_those_of_single_images() -> None:
    torch.manual_seed(0)
    model = randomise(Hybrid()).double().eval()
    x = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    weights = {name: p.detach() for name, p in model.named_parameters()}

    def norm(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return functional_call(model, parameters, (image[None],)).norm()

    with SoundBatchNorm(), sdpa_kernel(SDPBackend.MATH):
        together = vmap(grad(norm), (None, 0))(weights, x)
        alone = [grad(norm)(weights, image) for image in x]
    for name in weights:
        torch.testing.assert_close(together[name], torch.stack([row[name] for row in alone]))


def test_results_keep_their_bits_and_other_models_are_left_alone() -> None:
    torch.manual_seed(0)
    model, x = randomise(nn.BatchNorm2d(4)).eval(), torch.randn(1, 4, 3, 2)
    with sound_batch_norm(model) as mode:
        inside = model(x)
    assert isinstance(mode, SoundBatchNorm)
    assert torch.equal(inside, model(x))
    with sound_batch_norm(nn.Linear(2, 2)) as mode:
        assert mode is None
