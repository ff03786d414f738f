import numpy as np
import pytest
import torch
from PIL import Image

from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.sources.names import ImageDataset
from theriac.datasets.triggers import TRIGGERS
from theriac.errors import BadInput
from theriac.search.report.figures.trigger_sheet import (
    Size,
    _amplification,
    _one_a_class,
    attack_sheet,
    example_triggers,
)


def dataset_of(channels, height, width, count=20):
    pixels = torch.randint(
        0, 256, (count, channels, height, width), generator=torch.Generator().manual_seed(0)
    )
    images = MemoryImages(pixels=pixels.to(torch.uint8), labels=torch.arange(count) % 2, classes=("a", "b"))
    return ImageDataset(name="tiny", train=images, test=images, mean=(0.0,) * channels, std=(1.0,) * channels)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 16, 24)])
def test_a_sheet_is_drawn(tmp_path, channels, height, width):
    path = attack_sheet(dataset_of(channels, height, width), tmp_path / "sheet.png")
    with Image.open(path) as sheet:
        assert sheet.width > 1000
        assert sheet.height > 100 * len(TRIGGERS)
        middle = np.asarray(sheet.convert("L").crop((300, 60, 1000, sheet.height)))
    assert middle.std() > 40


def test_a_sheet_of_fewer_images_than_asked_for(tmp_path):
    assert attack_sheet(dataset_of(1, 8, 8, count=2), tmp_path / "sheet.pdf").stat().st_size > 1000


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(BadInput, match=r"does not end in \.png"):
        attack_sheet(dataset_of(1, 8, 8), tmp_path / "sheet.doc")
    with pytest.raises(BadInput, match="does not fit into images of 4 x 4"):
        attack_sheet(dataset_of(1, 4, 4), tmp_path / "sheet.png")


def test_every_trigger_has_an_example(tmp_path):
    examples = example_triggers(tmp_path)
    assert {name: type(one) for name, one in examples.items()} == TRIGGERS
    images = torch.full((1, 3, 16, 16), 0.5)
    masked = examples["masked"](images, torch.arange(1)) != images
    assert 0.05 < masked.float().mean() < 0.5


def test_sizes_by_hand():
    clean = torch.zeros(2, 3, 4, 4)
    triggered = clean.clone()
    triggered[0, :, 1, 1] = 0.5
    triggered[0, 0, 2, 2] = -0.25
    triggered[1, 0, 0, 0] = 1.0
    size = Size.of(clean, triggered)
    assert size.l0 == 1.5
    assert size.l2 == pytest.approx(((3 * 0.25 + 0.0625) ** 0.5 + 1) / 2)
    assert size.linf == 0.75
    assert str(size) == "l0 2 px\nl2 0.95\nlinf 0.75"


@pytest.mark.parametrize(("largest", "factor"), [(1.0, 1), (0.5, 2), (0.09, 10), (0.001, 100), (0.0, 100)])
def test_differences_are_amplified_as_far_as_they_stay_in_range(largest, factor):
    assert _amplification(torch.tensor([0.0, -largest])) == factor


def test_images_of_different_classes_are_shown():
    labels = torch.tensor([3, 3, 1, 3, 2, 1])
    assert labels[_one_a_class(labels, 3)].tolist() == [1, 2, 3]
    assert _one_a_class(labels, 5).tolist() == [2, 4, 0, 1, 3]
    assert _one_a_class(labels, 9).tolist() == [2, 4, 0, 1, 3, 5]
