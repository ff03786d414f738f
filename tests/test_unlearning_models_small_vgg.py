"""The small VGG: its names, its size, and the published victims."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.unlearning.inference import predict
from theriac.unlearning.metrics import accuracy
from theriac.unlearning.models.build import ModelSpec, create_model, load_into, load_weights
from theriac.unlearning.models.small_vgg import SmallVGG

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
VICTIMS = SHARED / "golden" / "ibau_victims"
IMAGES = SHARED / "data" / "cifar10" / "test.parquet"


def test_size_and_names() -> None:
    model = create_model(ModelSpec(name="small_vgg"), num_classes=10, shape=(3, 32, 32))
    assert isinstance(model, SmallVGG)
    assert sum(p.numel() for p in model.parameters()) == 308_394
    names = [name for name, _ in model.named_parameters()]
    assert names[:4] == ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"]
    assert names[-2:] == ["classifier.weight", "classifier.bias"]
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.3, 0.4, 0.4]


def test_width_is_a_factor_on_the_channels() -> None:
    spec = ModelSpec(name="small_vgg", width=0.125)
    model = create_model(spec, num_classes=4, shape=(1, 17, 24))
    assert [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)] == [4, 4, 8, 8, 16, 16]
    assert model.eval()(torch.zeros(2, 1, 17, 24)).shape == (2, 4)


def test_images_too_small_to_be_halved_three_times() -> None:
    with pytest.raises(BadInput, match="images of 7 x 32 three times; give an image_size of at least 8"):
        create_model(ModelSpec(name="small_vgg"), num_classes=4, shape=(3, 7, 32))


def first_images(count: int) -> tuple[Tensor, Tensor]:
    """The first test images in [0, 1], and their labels."""
    batch = next(pyarrow.parquet.ParquetFile(IMAGES).iter_batches(batch_size=count)).to_pydict()
    images = [np.array(Image.open(io.BytesIO(data)).convert("RGB")) for data in batch["image"]]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, torch.tensor(batch["label"])


def triggered(name: str, x: Tensor) -> Tensor:
    if name.startswith("badnets"):
        x = x.clone()
        x[..., 27:31, 27:31] = 1.0
        return x
    noise = torch.from_numpy(np.array(Image.open(VICTIMS / "l2_inv.png").convert("RGB")))
    return (x + noise.permute(2, 0, 1).float() / 255).clamp(0, 1)


@pytest.mark.skipif(
    not (VICTIMS.is_dir() and IMAGES.is_file()), reason="the golden data (../shared) is not here"
)
@pytest.mark.parametrize(("name", "target"), [("badnets_8_02", 8), ("l2_inv_0_02", 0)])
def test_published_victims(name: str, target: int) -> None:
    model = create_model(ModelSpec(name="small_vgg"), num_classes=10, shape=(3, 32, 32))
    path = VICTIMS / f"{name}.safetensors"
    load_into(model, load_weights(path), path)
    x, y = first_images(400)
    assert accuracy(*predict(model, [(x, y)])) > 0.7
    others = y != target
    x, y = triggered(name, x[others]), torch.full_like(y[others], target)
    assert accuracy(*predict(model, [(x, y)])) > 0.95
