"""Every method on architectures that are not theriac's: it ends, and leaves the given model as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torchvision.models import DenseNet, ShuffleNetV2, SqueezeNet

import theriac

CLASSES, SIDE = 3, 32


def _timm(name: str, **settings: Any) -> nn.Module:
    model: nn.Module = timm.create_model(name, num_classes=CLASSES, **settings)
    return model


NARROW = {"embed_dim": (32, 48, 64), "depth": (1, 1, 1), "key_dim": 8, "num_heads": (2, 2, 2)}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "a bare convolution without bias": lambda: nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    ),
    "torchvision DenseNet": lambda: DenseNet(4, (1, 1), 8, num_classes=CLASSES),
    "torchvision ShuffleNet": lambda: ShuffleNetV2([1, 1, 1], [8, 8, 16, 32, 32], num_classes=CLASSES),
    "torchvision SqueezeNet": lambda: SqueezeNet("1_1", num_classes=CLASSES),
    "timm ResNet": lambda: _timm("test_resnet"),
    "timm EfficientNet": lambda: _timm("test_efficientnet"),
    "timm MobileNetV3": lambda: _timm("mobilenetv3_small_050"),
    "timm ConvNeXt": lambda: _timm("test_convnext"),
    "timm ViT": lambda: _timm("test_vit", img_size=SIDE),
    "timm LeViT": lambda: _timm("levit_128s", img_size=2 * SIDE, **NARROW),
}

SHORT: dict[str, dict[str, Any]] = {
    "cf": {"iterations": 1, "batch_size": 8, "augmentation": "none"},
    "ft": {"epochs": 1},
    "fp": {"epochs": 1, "pruned_per_round": 0.5},
    "nad": {"epochs": 1, "teacher_epochs": 1},
    "nc": {"epochs": 1, "reversal": {"rounds": 1, "steps": 1}},
    "ga": {"steps": 1},
    "npo": {"steps": 1},
    "rga": {"steps": 1},
    "ibau": {"rounds": 1, "batch_size": 8, "batches": 1, "perturbations": 1, "iterations": 2},
}
NEED_CLEAN = ("ft", "fp", "nad", "nc", "ibau")


class Centred(nn.Module):
    """A model whose mean logits on ``x`` are 0, so that an untrained one predicts more than one class."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.model = model.eval()
        with torch.no_grad():
            self.register_buffer("shift", model(x).mean(0))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x) - self.shift
        return logits


@pytest.fixture(scope="module", params=MODELS)
def victim(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    """A model, images, and the labels that it gives them."""
    torch.manual_seed(0)
    side = 2 * SIDE if "LeViT" in request.param else SIDE
    x = torch.rand(40, 3, side, side)
    model = Centred(MODELS[request.param](), x).eval()
    with torch.no_grad():
        return model, x, model(x).argmax(1)


@pytest.mark.parametrize("method", SHORT)
def test_methods_that_train_end_on_any_architecture(
    victim: tuple[nn.Module, Tensor, Tensor], method: str
) -> None:
    model, x, y = victim
    before = copy.deepcopy(model.state_dict())
    clean: dict[str, Any] = {"clean": (x[20:], y[20:])} if method in NEED_CLEAN else {}
    healing = theriac.heal(
        model,
        (x[:6], y[:6]),
        (x[6:], y[6:]),
        method=method,
        search="fixed",
        parameters=SHORT[method],
        **clean,
    )
    assert healing.trace[0]["status"] != "failed", healing.trace[0]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("search", ["ptn", "guarded"])
def test_methods_that_dampen_end_on_any_architecture(
    victim: tuple[nn.Module, Tensor, Tensor], search: str
) -> None:
    model, x, y = victim
    healing = theriac.heal(model, (x[:6], y[:6]), (x[6:], y[6:]), search=search, **_FEW[search])
    assert healing.status in ("stopped", "no_stop", "collapsed", "not_healed")
    assert healing.metrics["retain_count"] == len(x) - 6


_FEW: dict[str, dict[str, Any]] = {"ptn": {"max_steps": 3}, "guarded": {}}
