"""WRN-28-10: its size and cost, its shape, and that importances are fast and exact on it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from theriac.tests import residual_networks
from theriac.unlearning.models.build import ModelSpec, create_model
from theriac.unlearning.models.wide_resnet import WideResNet28

NAME = "wrn28_10"


def on_meta(num_classes: int) -> WideResNet28:
    with torch.device("meta"):
        return WideResNet28(num_classes=num_classes)


def test_size() -> None:
    assert sum(p.numel() for p in on_meta(100).parameters()) == 36_547_940
    assert sum(p.numel() for p in on_meta(10).parameters()) == 36_490_250
    convolutions = [m for m in on_meta(10).modules() if isinstance(m, nn.Conv2d)]
    assert len([m for m in convolutions if m.kernel_size == (3, 3)]) == 25  # 28 with the shortcuts
    assert [m.out_channels for m in convolutions if m.kernel_size == (1, 1)] == [160, 320, 640]


def test_cost() -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        on_meta(100).eval()(torch.zeros(1, 3, 32, 32, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(5.95, abs=0.005)


def test_it_is_the_model_of_this_name() -> None:
    model = create_model(ModelSpec(name=NAME, width=0.1), num_classes=10, shape=(3, 32, 32))
    assert isinstance(model, WideResNet28)
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert (widths[0], max(widths)) == (2, 64)


def test_a_block_by_hand() -> None:
    """The second convolution is the strided one; the shortcut sees the bare input."""
    model = residual_networks.tiny(NAME).eval()
    block = model.get_submodule("layer2.0")
    x = torch.randn(2, 4, 8, 8)
    inner = block.get_submodule("conv1")(F.relu(block.get_submodule("bn1")(x)))
    assert inner.shape[2:] == (8, 8)
    out = block.get_submodule("conv2")(F.relu(block.get_submodule("bn2")(inner)))
    torch.testing.assert_close(block(x), out + block.get_submodule("shortcut")(x))
    assert out.shape[2:] == (4, 4)


def test_importances(caplog: pytest.LogCaptureFixture) -> None:
    residual_networks.assert_fast_importances_are_exact(NAME, caplog)


def test_images() -> None:
    residual_networks.assert_takes_images_of_any_size(NAME)
    residual_networks.assert_forward_keeps_its_input(NAME)
