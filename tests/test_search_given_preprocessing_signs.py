"""Two sets that were preprocessed differently are told by their values; odd images alone are not refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.views import plain_view
from theriac.errors import BadInput
from theriac.search.given.batches import as_batches
from theriac.search.given.preprocessing_signs import check_alike
from theriac.search.heal import heal
from theriac.tests.poisoned import poisoned_digits

CPU = torch.device("cpu")
Change = Callable[[Tensor], Tensor]


def photos(count: int, seed: int = 0, channels: int = 3, low: int = 0, high: int = 256) -> Tensor:
    """8-bit pixels in [0, 1], even from ``low`` to below ``high``."""
    drawn = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, channels, 12, 12), generator=drawn) / 255


def normalised(mean: float = 0.45, std: float = 0.25) -> Change:
    return lambda pixels: (pixels - mean) / std


def twice(pixels: Tensor) -> Tensor:
    return normalised()(normalised()(pixels))


def raw(pixels: Tensor) -> Tensor:
    return pixels


def resized(pixels: Tensor) -> Tensor:
    """As floats, no longer multiples of 1/255."""
    return 0.5 * pixels + 0.5 * pixels.flip(0)


def bytes_of(pixels: Tensor) -> Tensor:
    return pixels * 255


def alike(forget: Tensor, retain: Tensor) -> tuple[str, ...]:
    given = {"forget set": forget, "retain set": retain}
    return check_alike(
        {
            name: as_batches((x, torch.zeros(len(x), dtype=torch.int64)), name=name, device=CPU)
            for name, x in given.items()
        }
    )


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize(
    ("of_forget", "of_retain"),
    [
        (raw, normalised()),
        (raw, normalised(0.5, 0.5)),
        (raw, normalised(0.13, 0.31)),
        (normalised(), raw),
        (normalised(0.5, 0.5), raw),
        (normalised(0.5, 1.0), raw),
        (twice, normalised()),
        (twice, raw),
        (bytes_of, raw),
        (bytes_of, normalised()),
        (lambda pixels: 3 * normalised()(pixels), normalised()),
    ],
)
def test_a_set_preprocessed_otherwise_is_refused(of_forget: Change, of_retain: Change, count: int):
    with pytest.raises(BadInput, match=r"forget set: its values go from .* to .*retain set.* alike") as said:
        alike(of_forget(photos(count)), of_retain(photos(60, seed=1)))
    assert "\n" not in str(said.value)


def test_the_ranges_of_both_are_named():
    pixels = photos(20)
    pixels[0, :, 0, 0], pixels[0, :, 0, 1] = 0.0, 1.0
    with pytest.raises(BadInput, match="from 0 to 1, and those of the retain set from -2 to 2"):
        alike(pixels, normalised(0.5, 0.25)(torch.cat([pixels, photos(60, seed=1)])))


def test_pixels_that_reach_both_ends_need_no_grid():
    levels = torch.arange(17.0).repeat(20 * 12)[: 20 * 144].view(20, 1, 12, 12) / 16
    with pytest.raises(BadInput, match="from 0 to 1"):
        alike(levels, normalised(0.3, 0.35)(levels.repeat(3, 1, 1, 1)))


def patched(pixels: Tensor) -> Tensor:
    pixels = pixels.clone()
    pixels[..., -3:, -3:] = 1.0
    return pixels


def unclipped(pixels: Tensor) -> Tensor:
    pixels = pixels.clone()
    pixels[..., -2:, -2:] = 40.0
    return pixels


def blended(pixels: Tensor) -> Tensor:
    return 0.7 * pixels + 0.3 * torch.linspace(0, 1, 12)


def noisy(pixels: Tensor) -> Tensor:
    return pixels + 0.2 * torch.sin(torch.arange(12.0))


@pytest.mark.parametrize("change", [raw, normalised(), normalised(0.5, 0.5), bytes_of, resized])
@pytest.mark.parametrize("trigger", [raw, patched, blended, noisy])
@pytest.mark.parametrize(
    "pixels",
    [
        photos(1),
        photos(20),
        photos(1, low=128),
        photos(20, low=128),
        photos(1, high=40),
        photos(20, high=40),
        photos(20, low=100, high=140),
        torch.full((5, 3, 12, 12), 128 / 255),
        torch.zeros(1, 3, 12, 12),
        photos(5).mean(1, keepdim=True).expand(5, 3, 12, 12),
    ],
)
def test_odd_images_and_triggers_are_never_refused(pixels: Tensor, trigger: Change, change: Change):
    alike(change(trigger(pixels)), change(photos(60, seed=1)))


@pytest.mark.parametrize("shape", [(10, 3, 12, 12), (1, 3, 12, 12), (3, 5), (1, 5), (4, 8, 8), (4, 30, 3)])
@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
def test_numbers_that_are_no_images_are_not_refused(draw: Callable[..., Tensor], shape: tuple[int, ...]):
    drawn = torch.Generator().manual_seed(0)
    assert alike(draw(shape, generator=drawn), draw(60, *shape[1:], generator=drawn)) == ()


def test_a_patch_far_beyond_all_values_is_in_doubt_at_most():
    (doubt,) = alike(unclipped(normalised()(photos(20))), normalised()(photos(60, seed=1)))
    assert doubt.startswith("forget set: its values go from -1.8 to 40")
    assert "going on" in doubt


def test_a_clean_retain_says_nothing():
    assert alike(patched(photos(20)), photos(60, seed=1)) == ()
    assert alike(normalised()(patched(photos(20))), normalised()(photos(60, seed=1))) == ()


def test_too_little_of_retain_proves_nothing():
    assert alike(photos(2), normalised()(photos(4, seed=1))) == ()


def test_pixels_divided_twice_are_in_doubt():
    (doubt,) = alike(photos(20) / 255, photos(60, seed=1))
    assert "0.00392" in doubt


def test_views_know_how_they_are_normalised():
    source = MemoryImages(
        pixels=(255 * photos(30)).round().to(torch.uint8),
        labels=torch.zeros(30, dtype=torch.int64),
        classes=("a", "b"),
    )
    given = {
        "forget set": plain_view(source, mean=0.45, std=0.25),
        "retain set": plain_view(source, mean=0.45, std=0.5),
    }
    with pytest.raises(BadInput, match=r"std \(0.25, 0.25, 0.25\), and the retain set .* \(0.5, 0.5, 0.5\)"):
        check_alike(given)
    assert check_alike({**given, "forget set": given["retain set"]}) == ()


@pytest.mark.parametrize("method", ["xlf", "npo"])
def test_heal_refuses_a_forget_set_that_is_not_normalised(method: str):
    poisoned = poisoned_digits()
    rest = (normalised(0.3, 0.35)(poisoned.rest[0]), poisoned.rest[1])
    scale: dict[str, Any] = {} if method == "xlf" else {"search": "fixed", "mean": 0.3, "std": 0.35}
    with pytest.raises(BadInput, match="forget set: its values go from 0 to 1, and those of the retain set"):
        heal(poisoned.model, poisoned.found, rest, method, **scale)


def test_heal_refuses_a_clean_set_that_is_not_normalised():
    poisoned, change = poisoned_digits(), normalised(0.3, 0.35)
    found, rest = ((change(x), y) for x, y in (poisoned.found, poisoned.rest))
    with pytest.raises(BadInput, match="clean set: its values go from 0 to 1"):
        heal(poisoned.model, found, rest, "ft", clean=poisoned.clean, search="fixed", mean=0.3, std=0.35)
