"""Images a user has on disk, class folders or Parquet, whichever a path turns out to be."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..errors import BadInput
from .decoding import EncodedImages
from .folder import load_folder
from .parquet import load_parquet


def load_images(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int = 3,
) -> EncodedImages:
    """A labelled set: ``path/<class>/*.png``, a ``.parquet`` file, or a folder of ``.parquet`` files.

    Args:
        path: folder or file.
        classes: class names that labels follow; None: those found.
        image_size: side to bring all images to; None: they all have one size already.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        BadInput: nothing there, or nothing that is one of these.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(
            f"{path} does not exist; give a folder of class folders with images, or Parquet image files"
        )
    if path.is_file() or any(path.glob("*.parquet")):
        return load_parquet(path, classes=classes, image_size=image_size, channels=channels)
    return load_folder(path, classes=classes, image_size=image_size, channels=channels)
