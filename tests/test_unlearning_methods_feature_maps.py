"""Finding the layers that make a model's feature maps."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.tests.poisoned_conv import network
from theriac.unlearning.methods.feature_maps import (
    collecting,
    last_convolution,
    last_map_of_each_size,
    layer_calls,
)
from theriac.unlearning.models.build import ModelSpec, create_model

EXPECTED = {
    "resnet9": ["conv1", "conv3.0", "res2", "conv4.0"],
    "small_vgg": ["features.5", "features.13", "features.21"],
    "preact_resnet18": ["layer1", "layer2", "layer3", "layer4"],
    "wrn28_10": ["layer1", "layer2", "layer3"],
}
LAST = {
    "resnet9": ("conv4.0.0", "conv4.0.1", "conv4.0.2"),
    "small_vgg": ("features.19", "features.20", "features.21"),
    "preact_resnet18": ("layer4.1.conv2", None, "layer4.1.conv2"),
    "wrn28_10": ("layer3.3.conv2", None, "layer3.3.conv2"),
}


def make(name: str) -> nn.Module:
    return create_model(ModelSpec(name=name, width=0.05), num_classes=3, shape=(3, 32, 32))


@pytest.mark.parametrize("name", EXPECTED)
def test_the_last_map_of_each_size(name: str) -> None:
    model = make(name)
    assert last_map_of_each_size(model, torch.rand(1, 3, 32, 32)) == EXPECTED[name]
    assert model.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("name", LAST)
def test_the_last_convolution(name: str) -> None:
    model, (convolution, norm, place) = make(name), LAST[name]
    found = last_convolution(model, torch.rand(1, 3, 32, 32))
    assert found.name == convolution
    assert found.convolution is model.get_submodule(convolution)
    assert found.norm is (model.get_submodule(norm) if norm else None)
    assert found.place is model.get_submodule(place)


def test_a_foreign_residual_network() -> None:
    """Blocks that share one ReLU and add in place."""
    model = timm.create_model("test_resnet", num_classes=3)
    x = torch.rand(1, 3, 64, 64)
    found = last_convolution(model, x)
    assert found.norm is not None
    assert found.norm.num_features == found.convolution.out_channels
    maps = last_map_of_each_size(model, x)
    assert len(maps) == len(set(maps)) >= 3


class InPlace(nn.Module):
    """A sum written into a convolution's output, before BatchNorm reads it."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        if self.in_place:
            out += x
        return self.norm(out).mean((2, 3))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_norm_of_a_sum_is_not_the_convolutions(in_place: bool) -> None:
    found = last_convolution(InPlace(in_place), torch.rand(2, 3, 8, 8))
    assert (found.norm is None) == in_place


class Branches(nn.Module):
    """A convolution that two layers read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return (self.one(x) + self.two(x)).mean((2, 3))


def test_a_norm_beside_another_reader() -> None:
    assert last_convolution(Branches(), torch.rand(2, 3, 8, 8)).norm is None


def test_calls_of_a_shared_module_are_left_out() -> None:
    relu = nn.ReLU()
    model = nn.Sequential(nn.Conv2d(3, 3, 3), relu, nn.Conv2d(3, 3, 3), relu)
    assert [call.name for call in layer_calls(model, torch.rand(1, 3, 8, 8))] == ["0", "2"]


def test_models_without_convolutions() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(BadInput, match=r"calls no nn\.Conv2d that makes maps of its own; name the layers"):
        last_map_of_each_size(flat, torch.rand(1, 3, 2, 2))


def test_collecting() -> None:
    model, x = network().eval(), torch.rand(2, 1, 12, 12)
    with collecting(model, ["2", "4"]) as outputs:
        model(x)
        assert outputs["4"].shape == (2, 32, 6, 6)
        torch.testing.assert_close(outputs["2"], model[:3](x))
    assert not any(module._forward_hooks for module in model.modules())
    with (
        pytest.raises(BadInput, match="layer 'stem': no such module; choose 0, 1"),
        collecting(model, ["stem"]),
    ):
        pass
