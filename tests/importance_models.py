"""Small models whose parameters take part in unusual ways."""

from __future__ import annotations

from collections.abc import Callable

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.unlearning.models.resnet9 import ResNet9

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


class Projected(nn.Module):
    """One layer, and a fixed projection of what it returns: nothing else has parameters."""

    weight: Tensor

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = layer
        randomise(layer)
        size = layer.eval()(torch.zeros(2, *shape)).flatten(1).shape[1]
        self.register_buffer("weight", torch.randn(size, CLASSES) / size**0.5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)).flatten(1) @ self.weight


class Tokens(nn.Module):
    """A lookup, for numbers that come as floats."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding((x.abs() * 7).long() % self.embedding.num_embeddings)


def randomise(model: nn.Module) -> nn.Module:
    """Scales, shifts and running statistics far from 1 and 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                parameter.copy_(torch.randn(parameter.shape) * 0.5 + 0.3)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape) + 0.4)
    return model


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


class PreActivation(nn.Module):
    """BN-ReLU-conv twice, around a shortcut that is a strided 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        same = inputs == outputs and stride == 1
        self.shortcut = None if same else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        active = self.relu(self.norm1(x))
        out = self.conv2(self.relu(self.norm2(self.conv1(active))))
        out += x if self.shortcut is None else self.shortcut(active)
        return out


def wide_resnet() -> nn.Module:
    blocks = [PreActivation(3, 4, 1), PreActivation(4, 4, 1), PreActivation(4, 6, 2)]
    return nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1, bias=False),
        *blocks,
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )


def small_vgg() -> nn.Module:
    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ELU(inplace=True), nn.BatchNorm2d(outputs)]

    return nn.Sequential(
        *block(3, 4),
        nn.MaxPool2d(2),
        *block(4, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(45, CLASSES),
    )


class Odd(nn.Module):
    """A layer, what a test does around it, and a linear head; images become 36 tokens of 12 numbers."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.first = nn.Linear(12, width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(torch.tanh(self.first(x.flatten(1, 2)))).mean(1))

    def middle(self, x: Tensor) -> Tensor:
        """[n, 36, width] -> [n, tokens, width]; nothing, unless a subclass does more."""
        return x


class DirectTokens(Odd):
    """A class token, a position embedding, and a scale for all samples."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.position = nn.Parameter(torch.randn(1, 37, 12))
        self.scale = nn.Parameter(torch.randn(12))
        self.factor = nn.Parameter(torch.tensor(0.7))

    def middle(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        return torch.sin((x + self.position) * self.scale * self.factor)


class RowVector(Odd):
    """A parameter with a leading dimension of 1 that is no copy for each sample, and one that is."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.row = nn.Parameter(torch.randn(1, 12))
        self.position = nn.Parameter(torch.randn(1, 36, 12))

    def middle(self, x: Tensor) -> Tensor:
        x = x + self.position
        if self.mode == "matrix":
            return x * torch.sigmoid(F.linear(x, self.row))  # with a copy a sample: another width
        if self.mode == "sum":
            return torch.sin(x * (1 + self.row.sum()))  # with a copy a sample: n times as much
        return torch.sin(x * self.row.view(12))  # with a copy a sample: an error


class SequenceFirst(Odd):
    """Tokens before samples, and one norm that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(12, 12), nn.LayerNorm(12)

    def middle(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.norm(torch.tanh(self.inner(x.transpose(0, 1))).transpose(0, 1) * torch.arange(12))


class Windows(Odd):
    """Rows of several windows a sample, next to each other, as in a Swin transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(12, 12), nn.LayerNorm(12)

    def middle(self, x: Tensor) -> Tensor:
        windows = self.norm(x.reshape(-1, 9, 12))
        return torch.tanh(self.inner(windows)).reshape(x.shape)


class Frames(nn.Module):
    """A convolution and a norm on several frames a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.norm(self.conv(x.reshape(-1, 1, 12, 12)))).mean((2, 3)).view(-1, 6))


class Attention(Odd):
    """torch's own attention, which uses its weights without calling its layers."""

    def __init__(self, layer: str, batch_first: bool) -> None:
        super().__init__()
        self.batch_first = batch_first
        kinds: dict[str, Callable[[], nn.Module]] = {
            "attention": lambda: nn.MultiheadAttention(12, 2, batch_first=batch_first),
            "encoder": lambda: nn.TransformerEncoderLayer(12, 2, 8, batch_first=batch_first),
        }
        self.layer = kinds[layer]()

    def middle(self, x: Tensor) -> Tensor:
        x = x[:, ::4] if self.batch_first else x[:, ::4].transpose(0, 1)
        x = self.layer(x, x, x)[0] if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        return x if self.batch_first else x.transpose(0, 1)


class TiedOutput(nn.Module):
    """An embedding whose matrix also makes the logits, through a layer or by hand."""

    def __init__(self, by_hand: bool) -> None:
        super().__init__()
        self.tokens = Tokens(nn.Embedding(CLASSES, 5))
        self.head = None if by_hand else nn.Linear(5, CLASSES, bias=False)
        if self.head is not None:
            self.head.weight = self.tokens.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.tanh(self.tokens(x[:, 0]).cumsum(1)).mean((1, 2))
        return F.linear(hidden, self.tokens.embedding.weight) if self.head is None else self.head(hidden)


class Cut(Odd):
    """One layer under no_grad, one that is never called, one that is called with a keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.cut, self.idle, self.named = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(12, 12)

    def middle(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            gate = torch.sigmoid(self.cut(x))
        return self.named(input=gate * x)


class Centred(Odd):
    """Samples that depend on each other where several are given at once."""

    def middle(self, x: Tensor) -> Tensor:
        return x - 0.5 * x.mean(0)


class Overwriting(ConvNet):
    """Normalises its images in place."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.sub_(0.3).mul_(2))
