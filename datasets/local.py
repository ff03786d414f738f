"""Images a user has on disk, class folders or Parquet, whichever a path turns out to be."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import BadInput
from .decoding import EncodedImages
from .folder import load_folder
from .image_tree import SUFFIXES
from .parquet import load_parquet, visible_parquet

_REMEDY = "give a folder of class folders, such as cat/1.png, or Parquet files of images and labels"


def load_images(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int = 3,
) -> EncodedImages:
    """A labelled set: ``path/<class>/*.png``, a ``.parquet`` file, or a folder of ``.parquet`` files.

    Args:
        path: folder or file. A folder with both is read as Parquet.
        classes: class names that labels follow, if this set may hold only some of them; class folders are
            then found by name, and labels in Parquet are positions in the list. None: the classes found.
        image_size: side to bring all images to; None: they all have one size already.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        BadInput: nothing there, or nothing that is one of these.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise BadInput(f"{path} does not exist; {_REMEDY}")
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        raise BadInput(f"{path} is a single image, so its class is not known; {_REMEDY}")
    if path.is_dir() and not any(path.iterdir()):
        raise BadInput(f"{path} is empty; {_REMEDY}")
    if not path.is_dir() or visible_parquet(path):
        return load_parquet(path, classes=classes, image_size=image_size, channels=channels)
    return load_folder(path, classes=classes, image_size=image_size, channels=channels)
