"""PreAct-ResNet-18: its size, its shape, and that importances are fast and exact on it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from theriac.tests import residual_networks
from theriac.unlearning.models.build import ModelSpec, create_model
from theriac.unlearning.models.preact_resnet import PreActResNet18

NAME = "preact_resnet18"


def test_size() -> None:
    model = create_model(ModelSpec(name=NAME), num_classes=10, shape=(3, 32, 32))
    assert isinstance(model, PreActResNet18)
    assert sum(p.numel() for p in model.parameters()) == 11_172_170
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert len([m for m in convolutions if m.kernel_size == (3, 3)]) == 17  # and the linear layer: 18
    assert [m.out_channels for m in convolutions if m.kernel_size == (1, 1)] == [128, 256, 512]


def test_sides_are_halved_three_times() -> None:
    model = residual_networks.tiny(NAME, side=32).eval()
    assert isinstance(model, PreActResNet18)
    x = model.conv1(torch.zeros(1, 3, 32, 32))
    for stage, side in ((model.layer1, 32), (model.layer2, 16), (model.layer3, 8), (model.layer4, 4)):
        x = stage(x)
        assert x.shape[2:] == (side, side)


def test_a_block_by_hand() -> None:
    """The shortcut is the bare input where shapes agree, else a convolution of the activated one."""
    model = residual_networks.tiny(NAME).eval()
    assert isinstance(model, PreActResNet18)
    block = dict(model.layer2.named_children())["0"]
    x = torch.randn(2, 2, 8, 8)
    active = F.relu(block.get_submodule("bn1")(x))
    inner = F.relu(block.get_submodule("bn2")(block.get_submodule("conv1")(active)))
    expected = block.get_submodule("conv2")(inner) + block.get_submodule("shortcut")(active)
    torch.testing.assert_close(block(x), expected)
    same = dict(model.layer1.named_children())["1"]
    nn.init.zeros_(same.get_parameter("conv2.weight"))
    assert torch.equal(same(x), x)


def test_the_last_sum_is_normalised_and_activated() -> None:
    model = residual_networks.tiny(NAME).eval()
    with torch.no_grad():
        model.get_parameter("bn.weight").zero_()
        model.get_parameter("bn.bias").fill_(-1.0)
    assert torch.equal(model(torch.randn(1, 3, 8, 8))[0], model.get_parameter("fc.bias"))


def test_importances(caplog: pytest.LogCaptureFixture) -> None:
    residual_networks.assert_fast_importances_are_exact(NAME, caplog)


def test_images() -> None:
    residual_networks.assert_takes_images_of_any_size(NAME)
    residual_networks.assert_forward_keeps_its_input(NAME)
