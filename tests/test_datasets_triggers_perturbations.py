import math

import pytest
import torch

from theriac.datasets.triggers.perturbations import L0, L2, Sine, Smooth
from theriac.errors import BadInput


def batch(count, height=9, width=11, channels=3, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, height, width, generator=generator).to(dtype)


def test_the_sine_follows_its_formula():
    images = torch.full((1, 2, 4, 50), 0.5)
    change = Sine()(images, torch.zeros(1, dtype=torch.int64)) - images
    assert torch.equal(change, change[:, :1, :1].expand_as(change))
    wave = change[0, 0, 0]
    assert wave[0] == 0
    assert wave[10] == pytest.approx(0.1, abs=1e-6)
    assert wave[20] == pytest.approx(0, abs=1e-6)
    assert wave[30] == pytest.approx(-0.1, abs=1e-6)
    assert wave[5] == pytest.approx(0.1 * 0.5**0.5, abs=1e-6)


def test_the_sine_is_clipped():
    trigger = Sine(frequency=0.025, amplitude=0.5)
    bright = trigger(torch.ones(1, 1, 2, 40), torch.zeros(1, dtype=torch.int64))
    dark = trigger(torch.zeros(1, 1, 2, 40), torch.zeros(1, dtype=torch.int64))
    assert bright[..., 10].eq(1).all()
    assert bright[..., 30].allclose(torch.tensor(0.5))
    assert dark[..., 30].eq(0).all()
    assert dark[..., 10].allclose(torch.tensor(0.5))


def change(trigger, images):
    """Exact in float64: triggered minus clean."""
    return trigger(images, torch.arange(len(images))) - images


GREY = torch.full((1, 3, 12, 10), 0.5, dtype=torch.float64)


@pytest.mark.parametrize("mode", ["set", "add"])
@pytest.mark.parametrize("pixels", [1, 8, 120])
def test_l0_changes_at_most_its_pixels(mode, pixels):
    trigger = L0(pixels=pixels, mode=mode, amplitude=0.5)
    drawn = (change(trigger, GREY)[0] != 0).all(0)
    assert drawn.sum() == pixels
    images = batch(6, 12, 10)
    assert torch.equal(
        (change(trigger, images) != 0).any(1) & ~drawn, torch.zeros(6, 12, 10, dtype=torch.bool)
    )


def test_l0_sets_colours_and_adds_signs():
    where = (change(L0(), GREY)[0] != 0).any(0)
    dark, bright = torch.zeros_like(GREY), torch.ones_like(GREY)
    colours = L0()(dark, torch.arange(1))[0][:, where]
    assert set(colours.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(L0()(bright, torch.arange(1))[0][:, where], colours)
    added = change(L0(mode="add", amplitude=0.25), GREY)[0][:, where]
    assert torch.equal(added, torch.where(colours == 1, 0.25, -0.25).double())
    half = L0(amplitude=0.5)(dark, torch.arange(1))[0][:, where]
    assert torch.equal(half, colours / 2)


def test_l0_on_more_pixels_than_there_are_is_refused():
    with pytest.raises(BadInput, match="121 pixels does not fit into images of 12 x 10"):
        L0(pixels=121)(batch(1, 12, 10), torch.arange(1))


@pytest.mark.parametrize("norm", [0.01, 1.0, 3.0])
def test_l2_has_its_norm_and_clipping_makes_it_smaller(norm):
    pattern = L2(norm=norm).layers((3, 32, 32))[1]
    assert pattern.double().norm() == pytest.approx(norm, rel=1e-6)
    whole = change(L2(norm=norm), torch.full((1, 3, 32, 32), 0.5, dtype=torch.float64))
    torch.testing.assert_close(whole[0], pattern.double())
    clipped = change(L2(norm=norm), batch(5, 32, 32, dtype=torch.float64)).flatten(1).norm(dim=1)
    assert (clipped <= norm * (1 + 1e-6)).all()
    black = change(L2(norm=norm), torch.zeros(1, 3, 32, 32))
    assert torch.equal(black[0], pattern.clamp(0, 1))


def test_l2_is_dense_and_without_direction():
    pattern = L2(norm=1.0).layers((3, 32, 32))[1]
    assert (pattern != 0).all()
    assert abs(pattern.mean().item()) < 3 / 3072
    assert pattern.abs().max() < 0.1


def slow_dct(values):
    """Coefficients (u, v) of the DCT-II of one channel, term by term."""
    height, width = values.shape
    rows = [[math.cos(math.pi * u * (y + 0.5) / height) for y in range(height)] for u in range(height)]
    columns = [[math.cos(math.pi * v * (x + 0.5) / width) for x in range(width)] for v in range(width)]
    return torch.tensor(rows, dtype=torch.float64) @ values @ torch.tensor(columns, dtype=torch.float64).T


@pytest.mark.parametrize(("height", "width", "cutoff"), [(8, 8, 2), (16, 11, 4), (9, 20, 9)])
def test_smooth_holds_low_frequencies_alone(height, width, cutoff):
    pattern = Smooth(cutoff=cutoff, amplitude=0.3).layers((2, height, width))[1].double()
    assert pattern.abs().max() == pytest.approx(0.3, rel=1e-6)
    for channel in pattern:
        coefficients = slow_dct(channel).abs()
        assert coefficients[0, 0] < 1e-5
        assert coefficients[cutoff:].sum() + coefficients[:, cutoff:].sum() < 1e-4
        assert (coefficients[:cutoff, :cutoff] > 1e-3).sum() >= cutoff**2 - 2
    assert not torch.allclose(pattern[0], pattern[1])


def test_smooth_is_bounded_and_refuses_small_images():
    result = change(Smooth(amplitude=0.1), batch(4, dtype=torch.float64))
    assert result.abs().max() <= 0.1 + 1e-8
    with pytest.raises(BadInput, match="10 frequencies are more than images of 9 x 11 have"):
        Smooth(cutoff=10)(batch(1), torch.arange(1))


def test_drawn_patterns_never_change_between_versions():
    first = {kind: (1000 * kind().layers((1, 8, 8))[1][0, 3]).int().tolist() for kind in (L2, Smooth)}
    assert first[L2] == [413, -745, -355, -324, 31, 150, -93, -585]
    assert first[Smooth] == [-48, -38, -20, 0, 15, 18, 11, 3]
    kept, _ = L0(pixels=4).layers((1, 8, 8))
    assert (kept == 0).flatten().nonzero().flatten().tolist() == [16, 23, 39, 41]
