import pytest
import torch

from theriac.datasets.triggers.patches import (
    BadNets,
    MovingPatch,
    TrojanSquare,
    TrojanWatermark,
    _to_segment,
)
from theriac.errors import BadInput


def batch(count, height=9, width=11, channels=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, height, width, generator=generator).to(dtype)


@pytest.mark.parametrize(("size", "margin"), [(1, 0), (3, 0), (4, 1), (9, 0)])
def test_badnets_changes_its_square_alone(size, margin):
    images = batch(2)
    expected = images.clone()
    rows, columns = range(9 - margin - size, 9 - margin), range(11 - margin - size, 11 - margin)
    for row in rows:
        for column in columns:
            expected[:, :, row, column] = 1.0
    assert torch.equal(BadNets(size=size, margin=margin)(images, torch.arange(2)), expected)


@pytest.mark.parametrize("trigger", [BadNets(size=10), BadNets(size=5, margin=5), MovingPatch(size=10)])
def test_a_patch_larger_than_the_image_is_refused(trigger):
    with pytest.raises(BadInput, match=r"10 pixels .*does not fit into images of 9 x 11; choose a smaller"):
        trigger(batch(1), torch.arange(1))


def test_the_moving_patch_changes_one_corner_a_sample():
    trigger, index = MovingPatch(size=3, value=1.0), torch.arange(64)
    images = batch(64)
    result = trigger(images, index)
    corners = {0: (0, 0), 1: (0, 8), 2: (6, 0), 3: (6, 8)}
    for position, corner in enumerate(trigger.corners(index).tolist()):
        top, left = corners[corner]
        expected = images[position].clone()
        expected[:, top : top + 3, left : left + 3] = 1.0
        assert torch.equal(result[position], expected)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("step", [1, 4, 10, 4096])
def test_corners_are_close_to_uniform(seed, step):
    counts = MovingPatch(seed=seed).corners(step * torch.arange(8000)).bincount(minlength=4)
    chi_squared = ((counts - 2000.0) ** 2 / 2000).sum()
    assert len(counts) == 4
    assert chi_squared < 16.3  # 99.9 % quantile with three degrees of freedom


def test_corners_differ_between_seeds_and_neighbours():
    index = torch.arange(4000)
    corners = MovingPatch(seed=0).corners(index)
    assert (corners == MovingPatch(seed=1).corners(index)).float().mean() == pytest.approx(0.25, abs=0.04)
    assert (corners[1:] == corners[:-1]).float().mean() == pytest.approx(0.25, abs=0.04)


def test_corners_never_change_between_versions():
    assert MovingPatch().corners(torch.arange(12)).tolist() == [0, 3, 3, 0, 1, 1, 3, 0, 2, 3, 2, 3]


def test_the_square_of_ibau_covers_rows_and_columns_27_to_30():
    changed = BadNets(size=4, margin=1)(torch.zeros(1, 3, 32, 32), torch.arange(1)) != 0
    expected = torch.zeros(1, 3, 32, 32, dtype=torch.bool)
    expected[..., 27:31, 27:31] = True
    assert torch.equal(changed, expected)


CORNERS = {
    "top_left": (slice(2, 5), slice(2, 5)),
    "top_right": (slice(2, 5), slice(6, 9)),
    "bottom_left": (slice(4, 7), slice(2, 5)),
    "bottom_right": (slice(4, 7), slice(6, 9)),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_the_trojan_square_changes_its_place_alone_and_is_colourful(corner):
    trigger = TrojanSquare(size=3, margin=2, corner=corner)
    images = batch(2)
    result = trigger(images, torch.arange(2))
    place = (..., *CORNERS[corner])
    expected = images.clone()
    expected[place] = result[place]
    assert torch.equal(result, expected)
    assert torch.equal(result[place][0], result[place][1])
    assert len(result[place][0].unique()) == 27
    assert torch.equal(trigger(torch.zeros(1, 3, 9, 11), torch.arange(1))[place][0], result[place][0])


def test_a_trojan_square_larger_than_the_image_is_refused():
    with pytest.raises(BadInput, match=r"10 pixels .*does not fit into images of 9 x 11"):
        TrojanSquare(size=9, margin=1)(batch(1), torch.arange(1))


def test_the_watermark_is_sparse_and_covers_what_its_mask_says():
    trigger = TrojanWatermark()
    kept, added = trigger.layers((3, 32, 32))
    assert kept.shape == (1, 32, 32)
    assert ((kept >= 0) & (kept <= 1)).all()
    assert 0.1 < (kept < 1).float().mean() < 0.5
    images = batch(2, 32, 32)
    result = trigger(images, torch.arange(2))
    untouched = (kept == 1).expand_as(images)
    assert torch.equal(result[untouched], images[untouched])
    assert torch.equal(added.amax(0) > 0, kept[0] < 1)
    covered = (kept == 0).expand_as(images[0])
    assert torch.equal(result[0][covered], added[covered])


def test_the_ring_of_the_watermark_is_where_it_should_be():
    ringed, bare = (TrojanWatermark(ring=ring).layers((1, 100, 100))[0][0] for ring in (0.4, 0))
    radius = torch.hypot(*torch.meshgrid(*[torch.arange(100) - 49.5] * 2, indexing="ij"))
    assert (ringed[(radius - 40).abs() < 1] == 0).all()
    away = (radius - 40).abs() > 3
    assert torch.equal(ringed[away], bare[away])


def test_strokes_end_where_they_end():
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    distance = _to_segment(y, x, [[2.0, 1.0], [2.0, 4.0]])
    for i in range(5):
        for j in range(7):
            beside = max(1 - j, j - 4, 0)
            assert distance[i, j] == pytest.approx(((i - 2) ** 2 + beside**2) ** 0.5, abs=1e-6)


def test_opacity_lets_the_image_through():
    kept = TrojanWatermark(opacity=0.25, strokes=1, ring=0).layers((1, 64, 64))[0]
    assert kept.min() == 0.75


def test_drawn_patches_never_change_between_versions():
    _, square = TrojanSquare().layers((1, 8, 8))
    assert (square[0, 2, 2:5] * 1000).int().tolist() == [5, 419, 6]
    _, mark = TrojanWatermark().layers((1, 16, 16))
    assert [int(row.sum() * 100) for row in mark[0, 4:8]] == [303, 330, 337, 390]
