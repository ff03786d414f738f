"""Images that stay encoded until they are asked for, and their way into memory."""

from __future__ import annotations

import functools
import io
import math
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError, features
from torch import Tensor
from torch.nn import functional as F

from ...errors import BadInput
from .images import ImageSource, MemoryImages, check_labels

READABLE = "PNG, JPEG, GIF, WebP, BMP, PPM or TIFF"
MOST_PIXELS = 1 << 26
"""Most pixels of one image, 8192 x 8192: decoding more takes gigabytes, however small the file."""
MOST_SIDE = 2048
"""Largest side that images are resized to."""
_CHUNK = 32
_MAX_THREADS = 8
# Threads that decode smaller files spend more time on handing over Python's lock than they save.
_THREADED_BYTES = 16384
_BLOCK = 1024
# Pillow would try dozens of others, some of which start programs.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM", "TIFF", "AVIF")
_MODES = {1: "L", 3: "RGB"}
_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L"})
_BEGINNINGS = (
    re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|II\*\0|MM\0\*|P[56]\s"),
    re.compile(rb"RIFF....WEBP|BM....\0\0\0\0|....ftypavi[fs]", re.DOTALL),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedImages:
    """An `ImageSource` that decodes images when they are asked for. It can be pickled if ``read`` can.

    Args:
        read: the encoded bytes at a position; it is called from several threads.
        name: what an error message calls the image at a position.
        labels: int64 [N], in [0, len(classes)).
        classes: class names.
        size: (height, width) that every image is resized (both sides at least this long, ratio kept,
            antialiased) and centre-cropped to; None: all images have one size already.
        channels: 3 for RGB, 1 for grey; images are converted.

    Raises:
        BadInput: a label out of range; from ``images`` and ``shape``: an unreadable image (named), or images
            of mixed size without ``size`` (two of them named).
    """

    read: Callable[[int], bytes]
    name: Callable[[int], str]
    labels: Tensor
    classes: tuple[str, ...]
    size: tuple[int, int] | None = None
    channels: int = 3

    def __post_init__(self) -> None:
        if self.channels not in list(_MODES):  # also what has no hash
            raise BadInput(f"channels is {self.channels!r:.60}; choose 3 (RGB) or 1 (grey)")
        check_labels(self.labels, len(self.classes))

    @functools.cached_property
    def shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of the images; without a size, of the first image."""
        if self.size is not None:
            return self.channels, *self.size
        if not len(self):
            raise BadInput("a set without images has no image size; give images or image_size")
        height, width = self._decode(0).shape[1:]
        return self.channels, height, width

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, positions: Tensor) -> Tensor:
        # Ascending and without repeats: neighbours often sit together on the disk.
        wanted, inverse = torch.unique(self._checked(positions), return_inverse=True)
        chunks = [chunk.tolist() for chunk in wanted.split(_CHUNK)]
        shape = self.shape
        run = _pool(os.getpid(), _threads()).map if len(chunks) > 1 and self._worth_threads else map
        decoded = [image for chunk in run(self._decode_all, chunks) for image in chunk]
        return torch.stack(decoded)[inverse] if decoded else torch.empty(0, *shape, dtype=torch.uint8)

    @functools.cached_property
    def _worth_threads(self) -> bool:
        return _threads() > 1 and len(self._read(0)) >= _THREADED_BYTES

    def _checked(self, positions: Tensor) -> Tensor:
        positions = positions.cpu()
        wrong = positions[(positions < 0) | (positions >= len(self))]
        if len(wrong):
            raise IndexError(f"position {int(wrong[0])} is not in [0, {len(self)})")
        return positions

    def _decode_all(self, positions: list[int]) -> list[Tensor]:
        return [self._of_one_size(position, self._decode(position)) for position in positions]

    def _decode(self, position: int) -> Tensor:
        data = self._read(position)
        try:
            image = decode(data, self.channels)
        except Exception as error:  # Pillow raises a dozen kinds on damaged files
            raise self._unreadable(position, error) from error
        return image if self.size is None else fit_to_size(image, self.size)

    def _read(self, position: int) -> bytes:
        try:
            return self.read(position)
        except OSError as error:
            raise self._unreadable(position, error) from error

    def _unreadable(self, position: int, error: Exception) -> BadInput:
        return BadInput(
            f"{self.name(position)} cannot be read as an image ({_reason(error)}); "
            f"replace it by a {READABLE} image or remove it"
        )

    def _of_one_size(self, position: int, image: Tensor) -> Tensor:
        if tuple(image.shape) != self.shape:
            first, other = self.shape[1:], tuple(image.shape[1:])
            raise BadInput(
                f"images of mixed size: {self.name(0)} is {first[0]} x {first[1]} (height x width), "
                f"{self.name(position)} is {other[0]} x {other[1]}; "
                f"give image_size to bring all of them to one size"
            )
        return image


def decode(data: bytes, channels: int) -> Tensor:
    """Decode one image as Pillow does, to pixels: uint8 [channels, H, W].

    16-bit images lose their low bytes, an alpha channel is dropped, an animation gives its first frame, and
    EXIF orientation is ignored, as is usual in the training of classifiers.

    Args:
        data: the bytes of an image file.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        Exception: the bytes are no readable image (Pillow knows many ways to say so), or one of more than
            `MOST_PIXELS`.
    """
    raw, height, width = _raw(data, channels)
    pixels = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    return pixels.view(height, width, channels).permute(2, 0, 1).contiguous()


def _raw(data: bytes, channels: int) -> tuple[bytes, int, int]:
    """Decode an image to bytes [H, W, channels], H and W, holding one copy at a time on the way."""
    image = opened(data)
    # Else Pillow translates it to the new mode, and warns where it cannot.
    image.info.pop("transparency", None)
    image = _eight_bits(image)
    if image.mode != _MODES[channels]:
        image = image.convert(_MODES[channels])
    return image.tobytes(), image.height, image.width


def looks_like_image(head: bytes) -> bool:
    """Tell whether a file that begins with these (at least 12) bytes is an image that can be read."""
    return any(beginning.match(head) for beginning in _BEGINNINGS)


def fit_to_size(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize until both sides are at least ``size`` (ratio kept, antialiased), then crop the centre.

    Args:
        images: uint8 [..., C, H, W].
        size: (height, width); for a square this is the usual "shorter side, then centre crop".
    """
    (height, width), (old_height, old_width) = size, images.shape[-2:]
    if (height, width) == (old_height, old_width):
        return images
    if old_height * width >= old_width * height:
        resized = [old_height * width // old_width, width]
    else:
        resized = [height, old_width * height // old_height]
    covering = F.interpolate(
        images[None] if images.ndim == 3 else images, resized, mode="bilinear", antialias=True
    )
    top, left = round((resized[0] - height) / 2), round((resized[1] - width) / 2)
    cropped = covering[..., top : top + height, left : left + width]
    return cropped[0] if images.ndim == 3 else cropped


def square(image_size: int | None) -> tuple[int, int] | None:
    """Return (image_size, image_size), or None where no size is asked for.

    Raises:
        BadInput: the size is not a whole number of at least 2.
    """
    if image_size is None:
        return None
    # Not 1: PyTorch 2.15 hits an internal assertion when it resizes RGB bytes to a single pixel.
    if isinstance(image_size, bool) or not isinstance(image_size, int) or image_size < 2:
        raise BadInput(
            f"image_size is {image_size!r:.60}; give a whole number of pixels from 2 on, such as 32"
        )
    if image_size > MOST_SIDE:
        raise BadInput(
            f"image_size is {image_size:.6g}, and images are brought to {MOST_SIDE} at most; give less"
        )
    return image_size, image_size


def in_memory(
    source: ImageSource,
    budget_bytes: int = 2 << 30,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSource:
    """Decode all images at once into `MemoryImages` if they fit into ``budget_bytes``.

    Args:
        source: any source; one that does not fit is returned as it is.
        budget_bytes: bound on N * C * H * W.
        progress: called with (images decoded, images in all) after every block.
    """
    if isinstance(source, MemoryImages) or len(source) * math.prod(source.shape) > budget_bytes:
        return source
    pixels = torch.empty(len(source), *source.shape, dtype=torch.uint8)
    for block in torch.arange(len(source)).split(_BLOCK):
        pixels[block] = source.images(block)
        if progress is not None:
            progress(int(block[-1]) + 1, len(source))
    return MemoryImages(pixels=pixels, labels=source.labels, classes=source.classes)


def opened(data: bytes) -> Image.Image:
    """Open the image in ``data``, of which only the header is read yet.

    Raises:
        ValueError: its format is not known, or it has more than `MOST_PIXELS`.
        Exception: what Pillow raises on a damaged header.
    """
    if not data:
        raise ValueError("it is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=_formats())
    except UnidentifiedImageError as error:
        raise ValueError("its format is not known or its header is damaged") from error
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(f"it has {image.width} x {image.height} pixels, and at most {MOST_PIXELS} are read")
    return image


@functools.lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    """Return the formats that this Pillow was built with."""
    Image.init()
    return tuple(
        name for name in _FORMATS if name in Image.OPEN and (name != "AVIF" or features.check("avif"))
    )


def _eight_bits(image: Image.Image) -> Image.Image:
    """Reduce 16 bits of grey, which Pillow keeps for grey images alone and would clip to 255, to 8."""
    if image.mode == "F":
        raise ValueError("it holds floating-point numbers")
    if image.mode == "I" and image.format == "TIFF":
        raise ValueError("it holds 32-bit numbers")
    if image.mode not in _DEEP_MODES:
        return image
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Return the one pool of a process: threads do not survive a fork, so the process is part of the key."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"theriac-decode-{process}")


def _threads() -> int:
    """Return how many threads PyTorch may use here, which is what Ray and the user limit; at most 8."""
    return min(_MAX_THREADS, torch.get_num_threads())


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
