"""Sheets of pictures: pixels as they are, captions that fit, and what is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from theriac.errors import BadInput
from theriac.search.report.figures.pictures import caption, contact_sheet


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_keep_their_pixels(tmp_path: Path, figures: list[Figure], channels: int) -> None:
    clean = torch.rand(3, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    path = contact_sheet(
        {"clean": clean, "poisoned sample": clean[:2]}, tmp_path / "x.png", {"clean": list("abc")}
    )
    panels = figures[0].axes
    drawn = np.asarray(panels[1].images[0].get_array())
    assert np.array_equal(drawn, clean[1].permute(1, 2, 0).expand(-1, -1, 3).numpy())
    assert panels[0].images[0].get_interpolation() == "nearest"
    assert [panel.get_xlabel() for panel in panels] == ["a", "b", "c", "", "", ""]
    assert [len(panel.images) for panel in panels] == [1, 1, 1, 1, 1, 0]
    assert [panels[i].get_ylabel() for i in (0, 3)] == ["clean", "poisoned\nsample"]
    with Image.open(path) as image:
        assert min(image.size) > 300


def test_captions_name_the_class_and_the_label() -> None:
    assert caption("cat") == "cat"
    assert caption("cat", "ship") == "cat\nlabel: ship"
    assert caption("cat", "cat") == "cat\nlabel: cat"


def test_long_captions_do_not_run_into_each_other(tmp_path: Path, figures: list[Figure]) -> None:
    names = [caption("Staffordshire bull terrier", "WWWWWWWWWWWWWWWWWWWWWW")] * 3
    contact_sheet({"clean": torch.zeros(3, 3, 4, 4)}, tmp_path / "x.png", {"clean": names})
    assert figures[0].axes[0].get_xlabel() == "Staffordshire bul…\nlabel: WWWWWWWWWW…"
    contact_sheet(
        {"clean": torch.zeros(3, 3, 4, 4)}, tmp_path / "y.png", {"clean": ["Staffordshire bull terrier"] * 3}
    )
    boxes = [panel.xaxis.label.get_window_extent() for panel in figures[1].axes]
    assert not any(one.overlaps(two) for one, two in pairwise(boxes))


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ({}, {}, "no pictures to draw"),
        ({"clean": torch.zeros(0, 1, 4, 4)}, {}, "no pictures to draw"),
        ({"clean": torch.zeros(1, 2, 4, 4)}, {}, r"row 'clean' is torch.float32 \(1, 2, 4, 4\); give float"),
        ({"clean": torch.zeros(1, 4, 4)}, {}, "give float"),
        ({"clean": torch.zeros(1, 1, 4, 4, dtype=torch.uint8)}, {}, "torch.uint8"),
        ({"clean": torch.full((1, 1, 4, 4), 1.5)}, {}, r"row 'clean' has values outside \[0, 1\]"),
        ({"clean": torch.full((1, 1, 4, 4), float("nan"))}, {}, "outside"),
        ({"clean": torch.zeros(2, 1, 4, 4)}, {"clean": ["a"]}, "1 captions for row 'clean' do not match"),
        ({"clean": torch.zeros(2, 1, 4, 4)}, {"dirty": []}, "row 'dirty'"),
    ],
)
def test_wrong_pictures_are_refused(tmp_path: Path, rows: Any, labels: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        contact_sheet(rows, tmp_path / "x.png", labels)
