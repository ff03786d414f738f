"""Architectures by name and checkpoints."""

from __future__ import annotations

import random

import numpy as np
import pytest
import timm
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.unlearning.models.build import MODELS, ModelSpec, create_model, seeded
from theriac.unlearning.models.resnet9 import WIDTHS, ResNet9, scaled_widths

NARROW = (2, 3, 3, 3, 4, 4, 4, 2)


def test_resnet9_of_the_paper() -> None:
    model = create_model(ModelSpec(), num_classes=10, shape=(3, 32, 32))
    parameters = dict(model.named_parameters())
    assert isinstance(model, ResNet9)
    assert len(parameters) == 33
    assert sum(p.numel() for p in parameters.values()) == 2_276_224
    assert model.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert all(m.alpha == 0.075 for m in model.modules() if isinstance(m, nn.CELU))


def test_names_in_the_state_dict_of_resnet9() -> None:
    names = [name for name, _ in ResNet9(num_classes=2, widths=NARROW).named_parameters()]
    blocks = ["conv1", "conv2", "res1.module.0", "res1.module.1", "conv3.0"]
    blocks += ["res2.module.0", "res2.module.1", "conv4.0"]
    parts = ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert names == [f"{block}.{part}" for block in blocks for part in parts] + ["fc.weight"]


def test_residual_blocks_of_resnet9_add_to_their_input() -> None:
    model = ResNet9(num_classes=2, widths=NARROW).eval()
    for block, channels in ((model.res1, 3), (model.res2, 4)):
        for name, parameter in block.named_parameters():
            if name.startswith("module.1.1."):
                nn.init.zeros_(parameter)
        x = torch.randn(2, channels, 5, 5)
        assert torch.equal(block(x), x)


def test_widths() -> None:
    assert scaled_widths(1.0) == WIDTHS == (64, 128, 128, 128, 256, 256, 256, 128)
    assert scaled_widths(0.25) == (16, 32, 32, 32, 64, 64, 64, 32)
    assert scaled_widths(1e-9) == (1,) * 8
    narrow = create_model(ModelSpec(width=0.125), num_classes=4, shape=(1, 28, 28))
    assert narrow.eval()(torch.zeros(1, 1, 28, 28)).shape == (1, 4)
    shapes = [p.shape[0] for name, p in narrow.named_parameters() if name.endswith("0.weight")]
    assert shapes == [8, 16, 16, 16, 32, 32, 32, 16]


@pytest.mark.parametrize("widths", [(2,) * 7, (0, 2, 2, 2, 2, 2, 2, 2), (2, 2, 2, 3, 2, 2, 2, 2)])
def test_widths_that_do_not_fit(widths: tuple[int, ...]) -> None:
    with pytest.raises(BadInput, match=r"give eight positive numbers with the 4th equal to the 2nd"):
        ResNet9(num_classes=2, widths=widths)


def test_the_smallest_image() -> None:
    model = ResNet9(num_classes=2, widths=NARROW).eval()
    assert model(torch.zeros(1, 3, 11, 11)).shape == (1, 2)
    for shape in ((10, 32), (32, 8)):
        with pytest.raises(
            BadInput, match=rf"images of {shape[0]} x {shape[1]}.*at least 11 x 11; give a larger"
        ):
            model(torch.zeros(1, 3, *shape))
        with pytest.raises(BadInput, match="at least 11 x 11"):  # before any training
            create_model(ModelSpec(width=0.1), num_classes=2, shape=(3, *shape))


def test_settings_of_a_model() -> None:
    for wrong in ({"width": 0}, {"width": 17}, {"depth": 3}):
        with pytest.raises(ValidationError):
            ModelSpec.model_validate(wrong)


def states(models: list[nn.Module]) -> list[list[Tensor]]:
    return [list(model.state_dict().values()) for model in models]


@pytest.mark.parametrize("name", ["resnet9", "test_vit", "test_resnet"])
def test_the_seed_alone_determines_the_weights(name: str) -> None:
    spec = ModelSpec(name=name, width=0.1 if name in MODELS else 1.0)
    models = []
    for global_seed, seed in ((0, 7), (1, 7), (1, 8)):
        torch.manual_seed(global_seed)
        models.append(create_model(spec, num_classes=3, shape=(3, 32, 32), seed=seed))
    first, same, other = states(models)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_the_global_random_state_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def reseeds(*_: object) -> None:
        raise AssertionError("this reseeds the GPUs of the user")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeds)
    before = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    create_model(ModelSpec(name="test_vit"), num_classes=3, shape=(3, 32, 32), seed=5)
    create_model(ModelSpec(width=0.1), num_classes=3, shape=(3, 32, 32), seed=5)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert str(np.random.get_state()) == before[2]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_seeded_block_on_a_gpu() -> None:
    device = torch.device("cuda", 0)
    before = torch.cuda.get_rng_state(device)
    draws = []
    for _ in range(2):
        with seeded(3, device):
            draws.append(torch.rand(4, device=device))
    assert torch.equal(draws[0], draws[1])
    assert torch.equal(torch.cuda.get_rng_state(device), before)


def test_a_vit_takes_the_image_size_of_the_data() -> None:
    for side in (32, 64):
        model = create_model(
            ModelSpec(name="vit_tiny_patch16_224"), num_classes=5, shape=(1, side, side)
        ).eval()
        assert model(torch.zeros(2, 1, side, side)).shape == (2, 5)


def test_timm_models_that_cannot_be_made() -> None:
    with pytest.raises(BadInput, match=r"width 0.5: timm's test_vit has a fixed width; leave width at 1"):
        create_model(ModelSpec(name="test_vit", width=0.5), num_classes=5, shape=(3, 32, 32))
    with pytest.raises(
        BadInput, match=r"test_vit cannot take images of 3 x 20 x 20 \(.*divisible by patch size"
    ):
        create_model(ModelSpec(name="test_vit"), num_classes=5, shape=(3, 20, 20))
    with pytest.raises(ValidationError, match=r"\(\.r160_in1k\), .* give the architecture alone, 'test_vit'"):
        ModelSpec(name="test_vit.r160_in1k")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Identity(), r"the model returns \(1, 3, 32, 32\) for 1 images; it must return logits"),
        (nn.Flatten(), r"the model returns 3072 logits instead of 5"),
        (nn.Linear(7, 5), r"odd cannot take images of 3 x 32 x 32 \(.*mat1 and mat2 shapes"),
    ],
)
def test_architectures_that_are_no_classifiers_of_these_images(
    model: nn.Module, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(MODELS, "odd", lambda spec, num_classes, shape: model)
    with pytest.raises(BadInput, match=message):
        create_model(ModelSpec(name="odd"), num_classes=5, shape=(3, 32, 32))


def test_a_fresh_model_is_in_training_mode_with_untouched_statistics() -> None:
    model = create_model(ModelSpec(width=0.1), num_classes=5, shape=(3, 32, 32))
    assert all(module.training for module in model.modules())
    assert model.get_buffer("conv1.1.num_batches_tracked").item() == 0


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(BadInput, match="unknown model 'resnet_9': did you mean resnet9"):
        create_model(ModelSpec(name="resnet_9"), num_classes=5, shape=(3, 32, 32))
    with pytest.raises(BadInput, match=r"did you mean .*vit_base_patch16_224"):
        create_model(ModelSpec(name="vit_base_patch_16_224"), num_classes=5, shape=(3, 32, 32))
    with pytest.raises(
        BadInput, match=r"unknown model '': theriac has resnet9, .* and all of timm.list_models\(\)"
    ):
        create_model(ModelSpec(name=""), num_classes=5, shape=(3, 32, 32))


def test_the_names_of_timm_are_not_ours() -> None:
    assert not [name for name in MODELS if timm.is_model(name)]


@pytest.mark.parametrize("name", MODELS)
def test_our_own_models(name: str) -> None:
    """Each takes a width, grey images, and draws its weights by the seed alone."""
    spec = ModelSpec(name=name, width=0.05)
    torch.manual_seed(0)
    first = create_model(spec, num_classes=3, shape=(1, 16, 16), seed=7)
    torch.manual_seed(1)
    second = create_model(spec, num_classes=3, shape=(1, 16, 16), seed=7)
    wider = create_model(ModelSpec(name=name, width=0.1), num_classes=3, shape=(1, 16, 16), seed=7)
    assert first.eval()(torch.rand(2, 1, 16, 16)).shape == (2, 3)
    assert all(torch.equal(a, b) for a, b in zip(*states([first, second]), strict=True))
    assert sum(p.numel() for p in wider.parameters()) > sum(p.numel() for p in first.parameters())
