"""What the datasets of a sweep rule out, before anything is trained or Ray is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from theriac.datasets.sources import names
from theriac.errors import BadInput
from theriac.search.sweep import checked_sweep


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "scenario: {preset: digits, image_size: 8}",
            "digits: ResNet-9 got images of 8 x 8: .* at least 11 x 11",
        ),
        (
            "scenario: {preset: digits, image_size: 1}",
            "image_size is 1; give a whole number of pixels from 2",
        ),
        (
            "scenario: {preset: digits, image_size: 7}\nmodels: [small_vgg]",
            "digits: the small VGG cannot halve images of 7 x 7 three times",
        ),
        ("scenario: digits\nmodels: [resnet9, vgg11]", "digits: vgg11 cannot take images of 1 x 16 x 16"),
        (
            "scenario: {preset: digits, attack: {trigger: {size: 17}}}",
            "digits: a trigger of 17 pixels .* does not fit into images of 16 x 16; choose a smaller size",
        ),
        (
            "scenario: digits\nattacks: [{several: [{trigger: sine, target: 0}, "
            "{trigger: {name: badnets, size: 17}, target: 1}]}]",
            "digits: a trigger of 17 pixels",
        ),
        ("scenario: {preset: cifar10, image_size: 6}", "cifar10: ResNet-9 got images of 6 x 6"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(write, tmp_path: Path, lines: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        checked_sweep(write(f"{lines}\n"), (), tmp_path / "no-data")


@pytest.mark.parametrize(
    "lines",
    [
        "scenario: {preset: digits, image_size: 11}",
        "scenario: digits\nmodels: [resnet9, small_vgg, preact_resnet18]",
        "scenario: cifar10",
    ],
)
def test_sizes_that_fit_are_taken(write, tmp_path: Path, lines: str) -> None:
    assert checked_sweep(write(f"{lines}\n"), (), tmp_path / "no-data").tasks()


def test_shapes_of_datasets_that_are_not_here_are_known_where_a_size_is(tmp_path: Path) -> None:
    shapes = [
        names.labels_of(name, root=tmp_path, image_size=size).shape
        for name, size in (
            ("cifar10", None),
            ("cifar10", 20),
            ("gtsrb", None),
            ("digits", None),
            ("digits", 9),
        )
    ]
    assert shapes == [None, (3, 20, 20), (3, 32, 32), (1, 16, 16), (1, 9, 9)]
