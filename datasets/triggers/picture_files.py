"""Pictures that triggers are made of: found, sealed by their content, read and fitted to the images."""

from __future__ import annotations

import functools
import hashlib
import io
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import BadInput
from ..file_checks import MOST_PICTURE_BYTES, expanded, read_bytes
from ..sources import READABLE, decode, opened
from .base import Shape

ARRAY_SUFFIX = ".npy"
_COLOURS = (1, 3)
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A picture as it is in its file.

    Attributes:
        values: float32 [C, h, w]; from an image file in [0, 1], from an array also below 0.
        alpha: float32 [1, h, w] in [0, 1]; None if the file has no transparency.
    """

    values: Tensor
    alpha: Tensor | None


def absolute(file: str) -> str:
    """Return the path from the root: workers stand in other folders."""
    return str(expanded(file).absolute())


def seal(file: str, sha256: str | None) -> str:
    """Return the SHA-256 of the file, which makes its content part of what identifies an attack.

    A file that is not here passes if its sum is given, so that results can be read where the picture is not;
    `read_picture` will then refuse.

    Raises:
        BadInput: the file is missing or no readable picture, or not the one of which the sum is given.
    """
    path = Path(file)
    if sha256 is not None and not os.path.exists(path):
        return sha256
    found = hashlib.sha256(_bytes(path)).hexdigest()
    if sha256 not in (None, found):
        raise BadInput(
            f"picture {file} has the SHA-256 {found}, not {sha256}: it is another file or was changed; "
            f"put the right one there, or leave sha256 out"
        )
    read_picture(file, found, 3)
    return found


@functools.lru_cache(maxsize=4)
def read_picture(file: str, sha256: str, channels: int) -> Picture:
    """Read the picture in ``file``, once.

    Args:
        file: an image, or an array ending in .npy: [h, w] or [h, w, C], uint8 (255 is 1) or float in [-1, 1].
        sha256: what its content must be.
        channels: 1 or 3, those of the images; pictures are converted as Pillow does, grey arrays broadcast.

    Raises:
        BadInput: missing, unreadable or changed file, or an array of another shape, range or type.
    """
    if channels not in _COLOURS:
        raise BadInput(
            f"picture {file}: the images have {channels} channels; only 1 and 3 have pictures: choose "
            f"another trigger"
        )
    data = _bytes(Path(file))
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadInput(f"picture {file} was changed meanwhile; put the file with SHA-256 {sha256} there")
    try:
        return _array(data, channels) if Path(file).suffix == ARRAY_SUFFIX else _image(data, channels)
    except Exception as error:  # Pillow raises a dozen kinds on damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(
            f"picture {file} cannot be used ({reason}); give a {READABLE} image, or an array (.npy)"
        ) from error


def fitted(values: Tensor, shape: Shape) -> Tensor:
    """Resize ``values`` [C or 1, h, w] to [C or 1, H, W]: bilinear, antialiased, ratio not kept."""
    if values.shape[-2:] == shape[1:]:
        return values
    return F.interpolate(values[None], shape[1:], mode="bilinear", antialias=True)[0]


def _bytes(path: Path) -> bytes:
    remedy = f"give the path of a {READABLE} image or of an array (.npy)"
    return read_bytes(path, "picture", remedy=remedy, most_bytes=MOST_PICTURE_BYTES)


def _image(data: bytes, channels: int) -> Picture:
    values = decode(data, channels).float() / 255
    image = opened(data)
    if not image.has_transparency_data:
        return Picture(values=values, alpha=None)
    alpha = np.asarray(image.convert("RGBA").getchannel("A"))
    return Picture(values=values, alpha=torch.tensor(alpha)[None].float() / 255)


def _array(data: bytes, channels: int) -> Picture:
    _check_header(data)
    array = np.load(io.BytesIO(data), allow_pickle=False)
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[-1] not in {1, channels} or not array.size:
        raise ValueError(f"it has the shape {array.shape}, not [h, w] or [h, w, {channels}]")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"it holds {array.dtype}, not uint8 or floating-point numbers")
    values = torch.from_numpy(array.astype(np.float32)) / (255 if array.dtype == np.uint8 else 1)
    if not (values.abs() <= 1).all():
        raise ValueError("it has values outside [-1, 1]")
    return Picture(values=values.permute(2, 0, 1).contiguous(), alpha=None)


def _check_header(data: bytes) -> None:
    """Check that a file holds what its header says, because NumPy makes room for that before it looks."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"it is of version {version[0]}.{version[1]} of the format, not 1.0 or 2.0")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded: they hold Python objects")
    there, said = len(data) - file.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or said != there:
        raise ValueError(f"its header says {shape} of {dtype}, {said} bytes, and {there} follow")
