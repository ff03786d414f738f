"""Small models whose parameters take part in unusual ways."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.unlearning.resnet9 import ResNet9

CLASSES = 3
IMAGE = (3, 12, 12)


class Flat(nn.Sequential):
    """A linear layer on the pixels."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__(nn.Flatten(), nn.Linear(3 * 12 * 12, CLASSES, bias=bias))


class ConvNet(nn.Module):
    """Convolution, BatchNorm and CELU with running statistics far from 0 and 1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, CLASSES)
        with torch.no_grad():
            self.norm.running_mean.copy_(torch.randn(4))  # type: ignore[union-attr]
            self.norm.running_var.copy_(torch.rand(4) * 3 + 0.1)  # type: ignore[union-attr]
            self.norm.weight.copy_(torch.randn(4))
            self.norm.bias.copy_(torch.randn(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.celu(self.norm(self.conv(x)), alpha=0.075).amax((2, 3)))


class Shared(nn.Module):
    """One layer used twice, and the same weight under a second name (as tied embeddings have)."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.again = nn.Linear(12, 12)
        self.again.weight = self.first.weight
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = x.mean((1, 2))
        return self.head(torch.tanh(self.again(torch.tanh(self.first(self.first(x))))))


class Direct(nn.Module):
    """Parameters without a layer: a scale, and two that are only ever added to each other."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.3))
        self.a = nn.Parameter(torch.randn(12, CLASSES))
        self.b = nn.Parameter(torch.randn(12, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x.mean((1, 2)) @ (self.a + self.b))


class Unused(Flat):
    """A parameter that the logits do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Parameter(torch.ones(2))


class NeedsItem(ConvNet):
    """Looks at a number, which vmap forbids, and has a parameter that belongs to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.randn(CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale * (1.0 if x.sum().item() < 1e9 else 0.0)


def resnet9() -> nn.Module:
    model = ResNet9(num_classes=CLASSES, widths=(4, 6, 6, 6, 8, 8, 8, 6))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.copy_(torch.randn(module.num_features) * 0.3)
            module.running_var.copy_(torch.rand(module.num_features) + 0.5)
    return model


def tiny_vit() -> nn.Module:
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=12,
        patch_size=6,
        embed_dim=12,
        depth=2,
        num_heads=2,
        num_classes=CLASSES,
    )
    return model


MODELS: dict[str, Callable[[], nn.Module]] = {
    "linear": Flat,
    "linear without bias": lambda: Flat(bias=False),
    "convnet": ConvNet,
    "shared": Shared,
    "direct": Direct,
    "unused": Unused,
    "resnet9": resnet9,
    "tiny vit": tiny_vit,
}


def make(name: str, seed: int = 0) -> nn.Module:
    """A model of `MODELS`, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[name]()


def data(count: int, batch: int = 4, seed: int = 1) -> list[tuple[Tensor, Tensor]]:
    """``count`` random images in batches of ``batch``; the last one is shorter."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((count, *IMAGE), generator=generator)
    y = torch.randint(0, CLASSES, (count,), generator=generator)
    return list(zip(x.split(batch), y.split(batch), strict=True))
