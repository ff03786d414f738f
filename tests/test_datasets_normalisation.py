"""Mean and standard deviation in whatever form they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from theriac.datasets.normalisation import normalisation, over_channels
from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.views import plain_view
from theriac.errors import BadInput

FORMS: dict[str, tuple[Any, tuple[float, ...]]] = {
    "a number": (0.5, (0.5,)),
    "a whole number": (1, (1.0,)),
    "numbers": ([0.25, 0.5, 1], (0.25, 0.5, 1.0)),
    "a tensor": (torch.tensor([0.25, 0.5]), (0.25, 0.5)),
    "a tensor to be broadcast": (torch.tensor([0.25, 0.5]).view(1, 2, 1, 1), (0.25, 0.5)),
    "an array": (np.array([0.25, 0.5]), (0.25, 0.5)),
    "a number of numpy": (np.float32(0.5), (0.5,)),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str) -> None:
    given, read = FORMS[form]
    assert normalisation(given, given) == (read, read)


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        ("0.5", 1.0, "mean = '0.5' is no number and no list of numbers"),
        (None, 1.0, "mean = None is no number"),
        ([], 1.0, r"mean = \[\] is no number"),
        ([0.5, "x"], 1.0, "no list of numbers"),
        ([[0.5, 0.5], [0.5, 0.5]], 1.0, "no list of numbers"),
        ({"mean": 0.5}, 1.0, "no list of numbers"),
        (True, 1.0, "no number"),
        (0.5j, 1.0, "no number"),
        (0.5, [1.0, float("nan")], "std = .* is not finite"),
        (0.5, float("inf"), "std = inf is not finite"),
        (0.5, 0.0, "std = 0 is no standard deviation; give numbers above 0"),
        (0.5, [1.0, -0.1], "std = -0.1"),
        ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7), "mean = 125.3 is no mean of images in .*divided by 255"),
        ((0.5, 0.5), (1.0, 1.0, 1.0), "mean is of 2 channels and std of 3"),
    ],
)
def test_what_is_none_is_one_line(mean: Any, std: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        normalisation(mean, std)
    assert "\n" not in str(caught.value)


def test_one_number_counts_for_all_channels() -> None:
    assert over_channels(((0.5,), (0.1, 0.2, 0.3)), 3) == ((0.5,) * 3, (0.1, 0.2, 0.3))
    with pytest.raises(BadInput, match="std has 3 numbers and the images have 1 channels; give one number"):
        over_channels(((0.5,), (0.1, 0.2, 0.3)), 1)


def test_a_view_has_the_channels_of_its_images() -> None:
    grey = MemoryImages(
        pixels=torch.zeros(2, 1, 4, 4, dtype=torch.uint8), labels=torch.zeros(2).long(), classes=("a", "b")
    )
    with pytest.raises(BadInput, match="mean has 3 numbers and the images have 1 channels"):
        plain_view(grey, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    x, _ = next(iter(plain_view(grey, mean=np.array([0.5]), std=torch.tensor(0.5))))
    assert x.shape == (2, 1, 4, 4)
    assert x.unique().tolist() == [-1.0]
