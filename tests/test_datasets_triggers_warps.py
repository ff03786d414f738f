import pytest
import torch

from theriac.datasets.seeding import seeded_generator
from theriac.datasets.triggers.warps import WaNet, _places

INDEX = torch.arange(1)


def ramps(height, width):
    """An image whose channels say where a pixel is: [1, 2, H, W], x and y from 0 to 1."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    return torch.stack([x, y])[None].double()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_images_stay_as_they_are(value):
    images = torch.full((2, 3, 16, 12), value)
    torch.testing.assert_close(WaNet(strength=5)(images, torch.arange(2)), images, atol=1e-6, rtol=0)


@pytest.mark.parametrize("strength", [0.5, 2.0])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 33)])
def test_displacements_follow_the_formula(strength, height, width):
    shown = WaNet(strength=strength)(ramps(height, width), INDEX)[0]
    moved = (shown - ramps(height, width)[0]) * 2  # in coordinates from -1 to 1
    field = _places(WaNet(strength=strength), height, width)[0].permute(2, 0, 1)
    torch.testing.assert_close(shown * 2 - 1, field, atol=1e-6, rtol=0)
    # four lattice points along an axis of 3 n + 1 pixels fall on pixels; elsewhere the mean is about theirs
    sides = torch.tensor([width, height]).view(2, 1, 1)
    assert 0.4 < (moved * sides / strength).abs().mean() < 1.6


def test_the_lattice_has_mean_displacement_strength_over_side():
    strength, side = 0.5, 31  # lattice points on pixels 0, 10, 20 and 30
    places = _places(WaNet(strength=strength), side, side)[0]
    identity = torch.linspace(-1, 1, side, dtype=torch.float64)
    inner = (places - torch.stack(torch.meshgrid(identity, identity, indexing="xy"), -1))[10:30:10, 10:30:10]
    generator = seeded_generator(0, "wanet")
    lattice = torch.rand(1, 2, 4, 4, generator=generator, dtype=torch.float64) * 2 - 1
    expected = strength / side * (lattice / lattice.abs().mean())[0, :, 1:3, 1:3].permute(1, 2, 0)
    torch.testing.assert_close(inner, expected, atol=1e-9, rtol=0)


def test_the_warp_is_smooth_and_never_leaves_the_image():
    places = _places(WaNet(strength=20), 32, 32)[0]
    assert places.abs().max() <= 1
    gentle = _places(WaNet(), 32, 32)[0]
    assert (gentle[:, 1:, 0] > gentle[:, :-1, 0]).float().mean() > 0.95
    inner = gentle[4:-4, 4:-4, 1]  # at the edges it is cut off
    bends = inner[2:] - 2 * inner[1:-1] + inner[:-2]
    assert 0 < bends.abs().max() < 0.1 * (inner - torch.linspace(-1, 1, 32)[4:-4, None]).abs().max()


def test_stronger_moves_more():
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    changes = [(WaNet(strength=s)(images, INDEX) - images).abs().mean() for s in (0.1, 0.5, 2.0)]
    assert changes[0] < changes[1] < changes[2]
