"""Class folders of images: what cameras, programs, file systems and enemies put there."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image

from theriac.datasets.local import load_images

from .cases import ESCAPES, TEXTS, Case, Run, damaged, never, unwanted

SIDE = 6
Pixels = np.ndarray[Any, np.dtype[Any]]
Expected = dict[tuple[str, str], Pixels]
"""(class, file) -> [H, W, 3]"""


def case(rng: Random, folder: Path, run: Run) -> Case:
    """A folder of two or three classes with something in it, read as `load_images` does."""
    root = folder / "images"
    expected = _valid(rng, root)
    return rng.choice(TWISTS)(rng, root, expected)


def _valid(rng: Random, root: Path) -> Expected:
    found: Expected = {}
    for name in rng.sample(["cat", "dog", "Ant", "bee", "emu"], rng.randrange(2, 4)):
        (root / name).mkdir(parents=True)
        for number in range(rng.randrange(1, 4)):
            pixels = np.frombuffer(rng.randbytes(SIDE * SIDE * 3), np.uint8).reshape(SIDE, SIDE, 3)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
            found[name, f"{number}.png"] = pixels
    return found


def _read(root: Path, **options: Any) -> tuple[torch.Tensor, list[str]]:
    source = load_images(root, **options)
    if len(source) > 1000:
        raise AssertionError(f"{len(source)} images where there are a dozen")
    return source.images(torch.arange(len(source))), [
        source.classes[label] for label in source.labels.tolist()
    ]


def _case(root: Path, what: str, expected: Expected | None, must: str, **options: Any) -> Case:
    """``must`` is "right" (the images expected), "refuse", or "either"."""

    def right(answer: tuple[torch.Tensor, list[str]]) -> str | None:
        return None if expected is None else _unlike(answer, expected)

    judges: dict[str, Any] = {"right": never} if must == "refuse" else {"right": right}
    if must == "right":
        judges["refused"] = unwanted
    return Case(shown=what, call=lambda: _read(root, **options), **judges)


def _unlike(answer: tuple[torch.Tensor, list[str]], expected: Expected) -> str | None:
    images, labels = answer
    wanted = [(key[0], expected[key]) for key in sorted(expected)]
    if labels != [name for name, _ in wanted]:
        return f"classes {labels[:20]}, not {[name for name, _ in wanted]}"
    same = all(
        np.array_equal(one.permute(1, 2, 0).numpy(), pixels)
        for one, (_, pixels) in zip(images, wanted, strict=True)
    )
    return None if same else "other pixels than those in the files"


def _some(rng: Random, expected: Expected) -> tuple[str, str]:
    return rng.choice(sorted(expected))


def _untouched(rng: Random, root: Path, expected: Expected) -> Case:
    return _case(root, "valid", expected, "right")


def _broken(rng: Random, root: Path, expected: Expected) -> Case:
    key = _some(rng, expected)
    path = root.joinpath(*key)
    form = rng.choice(("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP"))
    buffer = io.BytesIO()
    Image.fromarray(expected[key]).save(buffer, form)
    how, data = damaged(rng, buffer.getvalue())
    path.write_bytes(data)
    return _case(root, f"{form} {how}", None, "either")


def _checked_chunks(rng: Random, root: Path, expected: Expected) -> Case:
    """A flipped bit in a PNG: its checksum tells, so other pixels than those saved are a wrong answer."""
    key = _some(rng, expected)
    path = root.joinpath(*key)
    data = bytearray(path.read_bytes())
    at = rng.randrange(8, len(data))
    data[at] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(data))
    return _case(root, f"PNG with a bit flipped in byte {at}", expected, "either")


def _mode(rng: Random, root: Path, expected: Expected) -> Case:
    key = _some(rng, expected)
    mode = rng.choice(("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "LAB", "HSV"))
    form = rng.choice(("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "ICO", "PPM"))
    image = Image.fromarray(expected[key])
    try:
        turned = image.convert("L").convert(mode) if mode in ("I;16", "F", "I") else image.convert(mode)
        turned.save(root.joinpath(*key), form)
    except (OSError, ValueError):
        return _case(root, f"{mode} cannot be {form}", None, "either")
    exact = mode == "RGBA" and form == "PNG"
    return _case(root, f"{form} of mode {mode}", expected if exact else None, "right" if exact else "either")


def _sixteen_bits(rng: Random, root: Path, expected: Expected) -> Case:
    name, file = _some(rng, expected)
    grey = np.frombuffer(rng.randbytes(SIDE * SIDE * 2), np.uint16).reshape(SIDE, SIDE)
    Image.fromarray(grey).save(root / name / file)
    shown = np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    return _case(root, "grey PNG of 16 bits", {**expected, (name, file): shown}, "right")


def _turned(rng: Random, root: Path, expected: Expected) -> Case:
    """EXIF says how the camera was held; odd numbers there are no reason to fail."""
    key = _some(rng, expected)
    exif, orientation = Image.Exif(), rng.choice((1, 3, 6, 8, 0, 9, 70_000, "x"))
    exif[0x0112] = orientation
    image = Image.fromarray(expected[key])
    try:
        image.save(root.joinpath(*key), "PNG", exif=exif)
    except (struct.error, ValueError, TypeError):
        return _case(root, f"EXIF {orientation!a} cannot be written", None, "either")
    return _case(root, f"EXIF {orientation!a}", expected if orientation == 1 else None, "either")


def _bomb(rng: Random, root: Path, expected: Expected) -> Case:
    path = root.joinpath(*_some(rng, expected))
    side = rng.choice((20_000, 60_000, 2**31 - 1))
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(rng.choice((100, 50_000_000))), 9)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")
    )
    return _case(root, f"PNG of {side} x {side}, {len(rows)} bytes", None, "refuse")


def _text_bomb(rng: Random, root: Path, expected: Expected) -> Case:
    key = _some(rng, expected)
    path = root.joinpath(*key)
    data = path.read_bytes()
    bomb = _chunk(rng.choice((b"zTXt", b"iCCP")), b"k\x00\x00" + zlib.compress(bytes(300_000_000), 9))
    path.write_bytes(data[:33] + bomb + data[33:])
    return _case(root, "PNG with a compressed bomb in its text", expected, "either")


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _size(rng: Random, root: Path, expected: Expected) -> Case:
    key = _some(rng, expected)
    size = rng.choice(((1, 1), (1, 9000), (9000, 1), (SIDE, SIDE + 1), (300, 200)))
    Image.new("RGB", size).save(root.joinpath(*key))
    asked = rng.choice((None, None, 8, 1, 0, -1, 10**6, 2**63, "8", 7.5))
    must = "refuse" if asked is None and len(expected) > 1 else "either"
    return _case(root, f"one image of {size}, image_size={asked!r}", None, must, image_size=asked)


def _many_frames(rng: Random, root: Path, expected: Expected) -> Case:
    path = root.joinpath(*_some(rng, expected))
    frames = [Image.new("RGB", (SIDE, SIDE), (n, n, n)) for n in range(20)]
    form = rng.choice(("GIF", "WEBP", "PNG"))
    frames[0].save(path, form, save_all=True, append_images=frames[1:])
    return _case(root, f"{form} of 20 frames", None, "either")


def _suffix(rng: Random, root: Path, expected: Expected) -> Case:
    key = _some(rng, expected)
    suffix = rng.choice(
        (".jfif", ".jpe", ".JPG", ".Png", ".txt", ".npy", ".tif", ".svg", ".png.gz", "", ".png~", ".heic")
    )
    path = root.joinpath(*key)
    path.rename(path.with_suffix(suffix))
    moved = dict(expected)
    moved[key[0], path.with_suffix(suffix).name] = moved.pop(key)
    known = suffix.lower() in (".jpg", ".png", ".jfif")
    return _case(root, f"suffix {suffix!r}", moved if known else None, "right" if known else "either")


def _beside(rng: Random, root: Path, expected: Expected) -> Case:
    """What lies beside images and is none."""
    name, _ = _some(rng, expected)
    entry = rng.choice(
        (".DS_Store", "Thumbs.db", "._0.png", ".hidden.png", "notes.txt", "labels.csv", "__MACOSX")
    )
    place = rng.choice((root, root / name))
    if entry == "__MACOSX":
        (root / name / entry).mkdir()
    else:
        (place / entry).write_bytes(rng.randbytes(50))
    return _case(root, f"{entry} in {place.name}", expected, "right")


def _link(rng: Random, root: Path, expected: Expected) -> Case:
    name, file = _some(rng, expected)
    targets = {
        "up": "..",
        "here": ".",
        "root": "/",
        "class": str(root / name),
        "device": "/dev/zero",
        "gone": "gone",
    }
    what = rng.choice([*targets, "image", "itself", "process"])
    targets |= {"image": str(root / name / file), "itself": "z.png", "process": "/proc"}
    link = root / name / ("z.png" if what in ("device", "gone", "image", "itself") else "z")
    link.symlink_to(targets[what])
    linked = {**expected, (name, "z.png"): expected[name, file]} if what == "image" else expected

    def right(answer: tuple[torch.Tensor, list[str]]) -> str | None:
        return None if _unlike(answer, linked) is None else _unlike(answer, expected)

    return Case(shown=f"a link to {what} in {name}", call=lambda: _read(root), right=right)


def _pipe(rng: Random, root: Path, expected: Expected) -> Case:
    name, _ = _some(rng, expected)
    entry = root / name / rng.choice(("p.png", "p", "p.jpg"))
    if rng.random() < 0.5:
        os.mkfifo(entry)
    else:
        entry.symlink_to(rng.choice(("/dev/zero", "/dev/stdin", "/dev/random", "/proc/kmsg")))
    return _case(root, f"no regular file: {entry.name}", expected, "either")


def _named(rng: Random, root: Path, expected: Expected) -> Case:
    key = _some(rng, expected)
    odd = rng.choice([*ESCAPES, "[red]x[/]", "a b", "%s", "é", "🦠", "x" * 200, "\udcff", "~", "$HOME", "*"])
    path, whole = root.joinpath(*key), rng.random() < 0.5
    renamed = root / odd if whole else path.with_name(f"{odd}.png")
    (path.parent if whole else path).rename(renamed)
    if rng.random() < 0.5:
        (renamed / "broken.png" if whole else renamed).write_bytes(b"no image")
        return _case(root, f"broken below a name like {odd!a}", None, "refuse")
    pairs = {
        (odd if whole and n == key[0] else n, f if whole or (n, f) != key else f"{odd}.png"): p
        for (n, f), p in expected.items()
    }
    return _case(root, f"a name like {odd!a}", pairs, "right")


def _numbered(rng: Random, root: Path, expected: Expected) -> Case:
    """Folders that are numbers are in the order of numbers."""
    other = root.with_name("numbers")
    for number in range(11):
        (other / str(number)).mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE), (number, 0, 0)).save(other / str(number) / "x.png")
    order = [str(number) for number in range(11)]
    return Case(
        shown="class folders 0 to 10",
        call=lambda: _read(other)[1],
        right=lambda names: None if names == order else f"classes in the order {names}",
        refused=unwanted,
    )


def _place(rng: Random, root: Path, expected: Expected) -> Case:
    empty = root / "void"
    empty.mkdir()
    loose = root.parent / "loose"
    loose.mkdir()
    (loose / "x.png").write_bytes(b"")
    paths: list[Any] = [
        empty,
        loose,
        root / "gone",
        *map(Path, TEXTS),
        "/dev/zero",
        "/dev/null",
        *TEXTS,
        3,
        b"x",
    ]
    path = rng.choice([path for path in paths if path is not None])
    return Case(shown=f"load_images({path!a})", call=lambda: _read(path), right=never)


def _classes(rng: Random, root: Path, expected: Expected) -> Case:
    names = sorted({name for name, _ in expected})
    odd: list[Any] = [
        [],
        names[:1],
        [*names, *names],
        "cat",
        [1, 2],
        [None],
        {"cat": 1},
        [*names, "more"],
        7,
        ["\x1b[2J"],
    ]
    classes = rng.choice(odd)
    channels = rng.choice((3, 3, 1, 0, 4, "3", None, True))
    return _case(
        root,
        f"classes={classes!a}, channels={channels!r}",
        None,
        "either",
        classes=classes,
        channels=channels,
    )


def _deep(rng: Random, root: Path, expected: Expected) -> Case:
    name, _ = _some(rng, expected)
    depth = rng.choice((3, 300))
    inner = root / name / "/".join(["d"] * depth)
    inner.mkdir(parents=True)
    return _case(root, "folders in folders", expected, "right" if depth == 3 else "either")


TWISTS: tuple[Callable[[Random, Path, Expected], Case], ...] = (
    _untouched,
    *[_broken] * 5,
    *[_checked_chunks] * 2,
    *[_mode] * 3,
    _sixteen_bits,
    _turned,
    _bomb,
    _text_bomb,
    *[_size] * 2,
    _many_frames,
    *[_suffix] * 2,
    *[_beside] * 2,
    *[_link] * 2,
    *[_pipe] * 2,
    *[_named] * 2,
    _numbered,
    *[_place] * 2,
    *[_classes] * 2,
    _deep,
)
