import io
import pickle
import struct
import threading
import warnings
import zlib
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from PIL import Image

from theriac.datasets.sources.decoding import (
    MOST_PIXELS,
    EncodedImages,
    decode,
    fit_to_size,
    in_memory,
    looks_like_image,
)
from theriac.datasets.sources.images import ImageSource, MemoryImages
from theriac.errors import BadInput


def pixels(seed, height=6, width=8, channels=3):
    shape = (channels, height, width)
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def encoded(image, kind="PNG"):
    array = image.permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if len(image) == 1 else array).save(buffer, kind)
    return buffer.getvalue()


def saved(image, kind, **settings):
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def by_pillow(data, mode):
    array = np.array(Image.open(io.BytesIO(data)).convert(mode))
    return torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)


def png_of(width, height, depth, color, rows):
    """A PNG file by hand: Pillow writes no 16-bit colours and no false sizes."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def picture_name(position):
    return f"picture {position}"


def source_of(files, size=None, channels=3, labels=None):
    labels = torch.zeros(len(files), dtype=torch.int64) if labels is None else labels
    return EncodedImages(
        read=files.__getitem__,
        name=picture_name,
        labels=labels,
        classes=("a", "b"),
        size=size,
        channels=channels,
    )


def test_positions_come_in_any_order_with_repeats_and_none():
    images = [pixels(seed) for seed in range(70)]
    source = source_of([encoded(image) for image in images])
    wanted = torch.tensor([69, 3, 3, 40, 0, 69])
    assert torch.equal(source.images(wanted), torch.stack(images)[wanted])
    assert source.images(torch.tensor([], dtype=torch.int64)).shape == (0, 3, 6, 8)
    assert source.shape == (3, 6, 8)
    assert len(source) == 70
    assert isinstance(source, ImageSource)


def test_repeats_are_decoded_once():
    reads = []
    files = [encoded(pixels(0)), encoded(pixels(1))]

    def read(position):
        reads.append(position)
        return files[position]

    source = EncodedImages(read=read, name=str, labels=torch.tensor([0, 0]), classes=("a",), size=(4, 4))
    source.images(torch.tensor([1, 1, 1, 0, 1]))
    assert sorted(reads) == [0, 1]


@pytest.mark.parametrize("smallest", [0, 10**6])
def test_the_thread_pool_gives_the_same_images(monkeypatch, smallest):
    images = [pixels(seed) for seed in range(100)]
    files = [encoded(image) for image in images]
    monkeypatch.setattr("theriac.datasets.sources.decoding._threads", lambda: 3)
    monkeypatch.setattr("theriac.datasets.sources.decoding._THREADED_BYTES", smallest)
    threads = set()

    def read(position):
        threads.add(threading.current_thread().name)
        return files[position]

    source = EncodedImages(read=read, name=str, labels=torch.zeros(100).long(), classes=("a",), size=(6, 8))
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(source.images(order), torch.stack(images)[order])
    assert any(name.startswith("theriac-decode") for name in threads) == (smallest == 0)


@pytest.mark.parametrize("position", [-1, 2])
def test_positions_out_of_range_are_refused(position):
    source = source_of([encoded(pixels(0)), encoded(pixels(1))])
    with pytest.raises(IndexError, match=rf"position {position} is not in \[0, 2\)"):
        source.images(torch.tensor([0, position]))


def test_it_can_be_pickled_after_use():
    source = source_of([encoded(pixels(0))] * 40)
    before = source.images(torch.arange(40))
    assert torch.equal(pickle.loads(pickle.dumps(source)).images(torch.arange(40)), before)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_formats_give_the_exact_pixels(kind):
    assert torch.equal(decode(encoded(pixels(1), kind), 3), pixels(1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM", "TIFF"])
@pytest.mark.parametrize("stored", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.filterwarnings("ignore:Webp does not support")
def test_every_format_gives_the_channels_asked_for(kind, stored, channels):
    image = decode(encoded(torch.full((stored, 5, 7), 130, dtype=torch.uint8), kind), channels)
    assert image.shape == (channels, 5, 7)
    assert image.dtype == torch.uint8
    assert (image.int() - 130).abs().max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM", "TIFF"])
def test_images_are_known_by_their_beginning(kind):
    assert looks_like_image(encoded(pixels(0), kind)[:16])
    assert not looks_like_image(b"BMW, Porsche and others")
    assert not looks_like_image(b"")


def test_sixteen_bits_of_tiff_lose_the_low_ones():
    values = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    assert decode(saved(Image.fromarray(values), "TIFF"), 1).flatten().tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("stored", [1, 3])
@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pixels_are_those_of_pillow(kind, stored, channels, mode):
    data = encoded(pixels(3, 17, 24, stored), kind)
    assert torch.equal(decode(data, channels), by_pillow(data, mode))
    assert decode(data, channels).is_contiguous()


DEEP = np.array([[0, 255, 256, 300], [32768, 40000, 65279, 65535]], dtype=np.uint16)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "data",
    [
        png_of(4, 2, 16, 0, [row.astype(">u2").tobytes() for row in DEEP]),
        png_of(4, 2, 16, 2, [row.astype(">u2").repeat(3).tobytes() for row in DEEP]),
        b"P5 4 2 65535\n" + DEEP.astype(">u2").tobytes(),
        b"P6 4 2 65535\n" + DEEP.repeat(3).astype(">u2").tobytes(),
    ],
    ids=["grey png", "rgb png", "pgm", "ppm"],
)
def test_sixteen_bits_become_eight(data, channels):
    expected = torch.from_numpy(DEEP.astype(np.int32) >> 8).expand(channels, 2, 4)
    # P6 is rounded by Pillow, the others lose the low byte.
    assert (decode(data, channels).int() - expected).abs().max() <= data.startswith(b"P6")


def test_other_modes_become_plain_ones():
    color = Image.fromarray(pixels(4, 5, 6).permute(1, 2, 0).numpy())
    palette = color.quantize(16)
    plain = by_pillow(saved(palette, "PNG"), "RGB")
    with_alpha = color.copy()
    with_alpha.putalpha(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(decode(saved(with_alpha, "PNG"), 3), by_pillow(saved(color, "PNG"), "RGB"))
        assert torch.equal(decode(saved(with_alpha.convert("LA"), "PNG"), 1), pixels_of(color.convert("L")))
        for transparency in (b"\0\x80\xff", 3):
            assert torch.equal(decode(saved(palette, "PNG", transparency=transparency), 3), plain)
        assert torch.equal(decode(saved(palette.convert("1"), "PNG"), 1), pixels_of(palette.convert("1")))
        assert decode(saved(color.convert("CMYK"), "JPEG"), 3).shape == (3, 5, 6)


def pixels_of(image):
    return torch.from_numpy(np.array(image.convert("L")))[None]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame(kind):
    frames = [Image.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)) for value in (50, 200)]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    assert (decode(data, 3).int() - 50).abs().max() <= 2


def test_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(pixels(1).permute(1, 2, 0).numpy())
    assert torch.equal(decode(saved(image, "PNG", exif=exif), 3), pixels(1))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"no image at all", "format is not known"),
        (saved(Image.new("RGB", (4, 4)), "TGA"), "format is not known"),
        (saved(Image.new("I", (4, 4)), "TIFF"), "32-bit numbers"),
        (saved(Image.new("RGB", (4, 4)), "EPS"), "format is not known"),
        (b"Pf 2 1 -1\n" + bytes(8), "floating-point"),
        (encoded(pixels(0, 64, 64), "JPEG")[:900], "truncated"),
        (encoded(pixels(0, 64, 64), "PNG")[:900], "truncated"),
        (encoded(pixels(0, 64, 64), "PPM")[:900], "truncated"),
        (encoded(pixels(0, 64, 64), "BMP")[:900], "truncated"),
        (encoded(pixels(0, 64, 64), "GIF")[:900], "truncated"),
        (encoded(pixels(0, 64, 64), "WEBP")[:900], "."),
        (png_of(60000, 60000, 8, 2, []), "3600000000 pixels.* exceeds limit"),
        (png_of(MOST_PIXELS, 1, 8, 2, [])[:40], "[(]"),
        (png_of(MOST_PIXELS // 8 + 1, 8, 8, 2, []), f"{MOST_PIXELS // 8 + 1} x 8 pixels, and at most"),
    ],
    ids=[
        "empty",
        "text",
        "tga",
        "tiff",
        "eps",
        "pfm",
        "jpeg",
        "png",
        "ppm",
        "bmp",
        "gif",
        "webp",
        "bomb",
        "cut",
        "large",
    ],
)
def test_an_unreadable_image_is_named_with_the_reason(data, reason):
    source = source_of([encoded(pixels(0, 64, 64)), data])
    with pytest.raises(BadInput, match=f"picture 1 cannot be read as an image .*{reason}.*remove it"):
        source.images(torch.arange(2))


@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM"]),
    changes=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), max_size=4),
    keep=st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_damage_gives_an_image_or_names_the_file(kind, changes, keep):
    data = bytearray(encoded(pixels(0, 9, 9), kind))
    for place, value in changes:
        data[place % len(data)] = value
    source = source_of([bytes(data[: round(keep * len(data))])], size=(4, 4))
    with mock.patch.object(Image, "MAX_IMAGE_PIXELS", 10**6):
        assert outcome(source) in ("an image", "picture 0 cannot be read as an image")


def outcome(source):
    try:
        source.images(torch.tensor([0]))
    except BadInput as error:
        return str(error).split(" (")[0]
    return "an image"


@pytest.mark.parametrize("threads", [1, 2])
def test_a_file_that_has_gone_is_named(monkeypatch, threads):
    monkeypatch.setattr("theriac.datasets.sources.decoding._threads", lambda: threads)

    def read(position):
        raise FileNotFoundError(2, "No such file or directory")

    source = EncodedImages(
        read=read, name=picture_name, labels=torch.zeros(80).long(), classes=("a",), size=(4, 4)
    )
    with pytest.raises(BadInput, match=r"picture 0 cannot be read .*No such file"):
        source.images(torch.arange(80))


def test_mixed_sizes_name_two_images_and_the_remedy():
    source = source_of([encoded(pixels(0, 6, 8)), encoded(pixels(1, 6, 8)), encoded(pixels(2, 9, 8))])
    with pytest.raises(BadInput, match=r"picture 0 is 6 x 8 .*picture 2 is 9 x 8; give image_size"):
        source.images(torch.arange(3))


def test_mixed_sizes_are_resized_and_cropped():
    source = source_of([encoded(pixels(0, 6, 8)), encoded(pixels(2, 9, 5))], size=(4, 4))
    assert source.images(torch.arange(2)).shape == (2, 3, 4, 4)
    assert source.shape == (3, 4, 4)


def test_fit_keeps_the_ratio_and_the_centre():
    ramp = torch.arange(40, dtype=torch.uint8).expand(1, 20, 40)
    fitted = fit_to_size(ramp, (20, 20))
    assert torch.equal(fitted, ramp[..., 10:30])
    assert fit_to_size(ramp, (20, 40)) is ramp
    halved = fit_to_size(ramp, (10, 10)).float()
    assert halved.mean() == pytest.approx(19.5, abs=0.6)


@pytest.mark.parametrize("height", [3, 7, 31, 500])
@pytest.mark.parametrize("width", [3, 8, 33])
@pytest.mark.parametrize("size", [(1, 2), (2, 2), (5, 5), (8, 3), (3, 32)])
def test_fit_gives_exactly_the_size(height, width, size):
    assert fit_to_size(torch.zeros(3, height, width, dtype=torch.uint8), size).shape == (3, *size)


def test_in_memory_holds_the_same_images_and_reports_progress():
    images = [pixels(seed, 2, 2) for seed in range(5)]
    labels = torch.tensor([0, 1, 0, 1, 1])
    calls = []
    held = in_memory(
        source_of([encoded(image) for image in images], labels=labels),
        progress=lambda *call: calls.append(call),
    )
    assert isinstance(held, MemoryImages)
    assert torch.equal(held.pixels, torch.stack(images))
    assert torch.equal(held.labels, labels)
    assert calls == [(5, 5)]
    assert in_memory(held) is held


def test_in_memory_stays_lazy_over_the_budget():
    source = source_of([encoded(pixels(0, 2, 2))] * 5)
    assert in_memory(source, budget_bytes=5 * 12 - 1) is source
    assert isinstance(in_memory(source, budget_bytes=5 * 12), MemoryImages)


def test_labels_and_channels_are_checked():
    with pytest.raises(BadInput, match="label 2 at position 0 is out of range"):
        source_of([encoded(pixels(0))], labels=torch.tensor([2]))
    with pytest.raises(BadInput, match="channels is 4"):
        source_of([encoded(pixels(0))], channels=4)
