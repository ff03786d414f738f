"""What bystanders say of a model, and how far images are nudged."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
import torch
from torch import Tensor, nn

from theriac.search.guarded.bystanders import (
    SHARPNESS,
    STEPS,
    Bystanders,
    Change,
    belief,
    nudged,
    ordered,
)
from theriac.unlearning.inference import Batch
from theriac.unlearning.precision import Arithmetic

PLAIN = Arithmetic()


class Says(nn.Module):
    """Predicts class 1 where the sum of an image is above the weight, else class 0."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.bound = nn.Parameter(torch.tensor(bound))

    def forward(self, x: Tensor) -> Tensor:
        above = x.flatten(1).sum(1) - self.bound
        return torch.stack([-above, above], 1)


class Centre(Says):
    """Looks at the middle of an image only, so that it stands no move."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[..., 4:5, 4:5])


def column(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def sure(above: float) -> float:
    """That `Says` predicts class 1."""
    return 1 / (1 + math.exp(-2 * SHARPNESS * above))


def test_flips_count_what_was_right_and_the_loss_also_what_becomes_right():
    values = (1.0, 2.0, 3.0, -1.0)
    watched = Bystanders(Says(0.0), [(column(*values), torch.tensor([1, 1, 1, 1]))], PLAIN)
    assert watched.change(Says(0.0)) == Change(0.0, 0.0)
    for bound, flips in ((1.5, 1 / 3), (-2.0, 0.0)):
        lost = fmean(sure(value) - sure(value - bound) for value in values)
        assert watched.change(Says(bound)) == pytest.approx((flips, lost), abs=1e-6)
        assert (lost > 0) == (bound > 0)


def test_what_is_less_sure_is_lost_before_it_flips():
    watched = Bystanders(Says(0.0), [(column(0.5), torch.tensor([1]))], PLAIN)
    changes = [watched.change(Says(bound)) for bound in (0.1, 0.2, 0.4)]
    assert {change.flips for change in changes} == {0.0}
    assert [change.lost for change in changes] == sorted(change.lost for change in changes)
    assert changes[0].lost > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_belief_is_the_softmax_of_sharpened_logits_at_the_label(dtype: torch.dtype):
    logits, labels = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]], dtype=dtype), torch.tensor([1, 0])
    powers = [[math.exp(SHARPNESS * value) for value in row] for row in logits.tolist()]
    expected = [row[label] / sum(row) for row, label in zip(powers, labels.tolist(), strict=True)]
    assert belief(logits, labels).tolist() == pytest.approx(expected, rel=1e-9)


def test_nobody_flips_and_nothing_is_lost_where_nobody_watches():
    assert Bystanders(Says(0.0), [], PLAIN).change(Says(9.0)) == Change(0.0, 0.0)
    wrong = Bystanders(Says(0.0), [(column(1.0), torch.tensor([0]))], PLAIN)
    flips, lost = wrong.change(Says(2.0))
    assert flips == 0.0
    assert lost == pytest.approx(sure(-1.0) - sure(1.0))


def dots(size: int = 9) -> Batch:
    """Sixteen images with one bright pixel in the middle."""
    x = torch.zeros(16, 1, size, size)
    x[..., size // 2, size // 2] = 1.0
    return x, torch.ones(16).long()


def test_images_are_moved_by_a_pixel_to_the_eight_sides_in_turn():
    (moved, y), *more = nudged(Says(0.5), [dots()], PLAIN)
    assert more == []
    assert torch.equal(y, dots()[1])
    places = [tuple((image[0] == 1).nonzero()[0].tolist()) for image in moved]
    assert places == 2 * [(4 - down, 4 - across) for down, across in STEPS]
    assert len(set(places)) == 8


def test_large_images_are_moved_further_and_what_enters_repeats_the_edge():
    x = torch.arange(96.0).expand(8, 1, 96, 96)
    ((moved, _),) = nudged(Says(0.0), [(x, torch.ones(8).long())], PLAIN)
    assert torch.equal(moved[1, 0, 0], torch.arange(96.0).add(3).clamp(max=95))


@pytest.mark.parametrize(("bound", "share"), [(0.4, 0.5), (0.7, 0.25), (0.8, 0.125), (0.9, 0.0)])
def test_images_are_moved_only_as_far_as_the_victim_stands_it(bound: float, share: float):
    ((moved, _),) = nudged(Centre(bound), [dots()], PLAIN)
    assert torch.allclose(moved[..., 4, 4], torch.tensor(1.0 - share))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_any_float_are_moved(dtype: torch.dtype):
    x, y = dots()
    ((moved, _),) = nudged(Says(0.5), [(x.to(dtype), y)], PLAIN)
    assert moved.dtype == dtype
    assert not torch.equal(moved, x.to(dtype))


def test_what_is_no_image_is_left_as_it_is():
    ((same, _),) = nudged(Says(0.0), [(column(1.0, 2.0), torch.tensor([1, 1]))], PLAIN)
    assert torch.equal(same, column(1.0, 2.0))
    assert nudged(Says(0.0), [], PLAIN) == []


@pytest.mark.parametrize(("precision", "last"), [("float32", False), ("bfloat16", True)])
def test_reduced_passes_get_images_channels_last(precision: str, last: bool):
    images = torch.randn(4, 3, 8, 8)
    given = [(images, torch.zeros(4).long()), (column(1.0), torch.zeros(1).long())]
    (x, _), (flat, _) = ordered(given, Arithmetic(precision))  # type: ignore[arg-type]
    assert x.is_contiguous(memory_format=torch.channels_last) is last
    assert torch.equal(x, images)
    assert flat.shape == (1, 1)
