import pytest
import torch
from hypothesis import given, strategies as st
from torch.nn import functional

from theriac.datasets.augmentation import augment

sizes = st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(1, 20), st.integers(1, 20))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def distinct(count=40, channels=2, height=16, width=16):
    """Images in which every pixel has a value of its own, never 0, so that a window has one place only."""
    total = count * channels * height * width
    return torch.arange(1, total + 1, dtype=torch.float32).view(count, channels, height, width)


def windows(image, pad):
    """Every crop of the zero-padded image, by its (top, left) corner."""
    _, height, width = image.shape
    padded = functional.pad(image, (pad, pad, pad, pad))
    corners = [(top, left) for top in range(2 * pad + 1) for left in range(2 * pad + 1)]
    return {(i, j): padded[:, i : i + height, j : j + width] for i, j in corners}


def place_of(result, image, pad):
    """(top, left, flipped) of the only window that ``result`` is."""
    options = windows(image, pad).items()
    found = [(i, j, False) for (i, j), window in options if torch.equal(window, result)]
    found += [(i, j, True) for (i, j), window in options if torch.equal(window.flip(-1), result)]
    assert len(found) == 1
    return found[0]


def one_by_one(images, kind, source):
    """The same draws, but every image cut and flipped for itself."""
    count, _, height, width = images.shape
    pad = height // 8
    tops, lefts = torch.randint(0, 2 * pad + 1, (2, count), generator=source).tolist()
    flips = (torch.rand(count, generator=source) < 0.5).tolist() if kind == "crop_flip" else [False] * count
    result = torch.zeros_like(images)
    for number in range(count):
        for row in range(height):
            for column in range(width):
                top, left = row + tops[number] - pad, column + lefts[number] - pad
                if 0 <= top < height and 0 <= left < width:
                    place = width - 1 - column if flips[number] else column
                    result[number, :, row, place] = images[number, :, top, left]
    return result


@given(size=sizes, kind=st.sampled_from(["none", "crop", "crop_flip"]), seed=st.integers(0, 2**31))
def test_shape_and_purity(size, kind, seed):
    images = torch.rand(size, generator=generator(1))
    before = images.clone()
    assert augment(images, kind, generator(seed)).shape == images.shape
    assert torch.equal(images, before)


@given(size=sizes, kind=st.sampled_from(["crop", "crop_flip"]), seed=st.integers(0, 2**31))
def test_a_batch_gives_what_a_loop_over_images_gives(size, kind, seed):
    images = torch.rand(size, generator=generator(1))
    assert torch.equal(augment(images, kind, generator(seed)), one_by_one(images, kind, generator(seed)))


def test_none_changes_and_draws_nothing():
    images, source = distinct(2), generator()
    before = source.get_state()
    assert augment(images, "none", source) is images
    assert torch.equal(source.get_state(), before)


@pytest.mark.parametrize("kind", ["crop", "crop_flip"])
@pytest.mark.parametrize(("height", "width", "pad"), [(16, 16, 2), (32, 8, 4), (15, 40, 1)])
def test_every_result_is_a_window_of_the_padded_image(kind, height, width, pad):
    images = distinct(12, 2, height, width)
    places = [
        place_of(result, image, pad)
        for result, image in zip(augment(images, kind, generator()), images, strict=True)
    ]
    assert len({place[:2] for place in places}) > 3
    assert {flipped for *_, flipped in places} == ({False, True} if kind == "crop_flip" else {False})


def test_windows_and_flips_are_close_to_uniform_and_independent():
    images = distinct(5000, 1, 8, 8)
    places = [
        place_of(result, image, 1)
        for result, image in zip(augment(images, "crop_flip", generator()), images, strict=True)
    ]
    counts = torch.tensor(
        [places.count((i, j, f)) for i in range(3) for j in range(3) for f in (False, True)]
    )
    expected = len(images) / 18
    assert ((counts - expected) ** 2 / expected).sum() < 40.8  # 99.9 % quantile, 17 degrees of freedom


def test_small_images_are_only_flipped():
    images = distinct(30, 1, 7, 7)
    assert torch.equal(augment(images, "crop", generator()), images)
    flipped = augment(images, "crop_flip", generator())
    assert all(place_of(result, image, 0) for result, image in zip(flipped, images, strict=True))


@pytest.mark.parametrize("kind", ["crop", "crop_flip"])
def test_the_generator_determines_the_result_and_moves_on(kind):
    images, source = distinct(), generator(3)
    first, second = augment(images, kind, source), augment(images, kind, source)
    assert torch.equal(first, augment(images, kind, generator(3)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, augment(images, kind, generator(4)))


@pytest.mark.parametrize("kind", ["crop", "crop_flip"])
def test_draws_are_made_on_the_cpu_whatever_the_device(kind):
    images, here, there = distinct(), generator(), generator()
    before = torch.get_rng_state()
    augment(images, kind, here)
    result = augment(images.to("meta"), kind, there)
    assert result.device.type == "meta"
    assert result.shape == images.shape
    assert torch.equal(here.get_state(), there.get_state())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.uint8])
def test_the_dtype_stays(dtype):
    assert augment(distinct(3).to(dtype), "crop_flip", generator()).dtype == dtype
