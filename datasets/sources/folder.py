"""Images in class folders: ``path/<class>/*.png``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...errors import BadInput
from ..file_checks import MOST_IMAGE_BYTES, read_bytes
from .class_names import classes_of_folders, in_order
from .decoding import READABLE, EncodedImages, square
from .image_tree import image_files, is_folder, is_image, listed


@dataclass(frozen=True, kw_only=True)
class ImageFiles:
    """Encoded bytes of image files; ``files`` are relative to ``folder``."""

    folder: str
    files: tuple[str, ...]

    def read(self, position: int) -> bytes:
        """Read the bytes of the file at ``position``.

        Raises:
            BadInput: it is no regular file any more, cannot be read, or is larger than `MOST_IMAGE_BYTES`.
        """
        remedy = f"replace it by a {READABLE} image or remove it"
        return read_bytes(self.name(position), "image", remedy=remedy, most_bytes=MOST_IMAGE_BYTES)

    def name(self, position: int) -> str:
        """Return the path of the file at ``position``."""
        return os.path.join(self.folder, self.files[position])


def load_folder(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int = 3,
) -> EncodedImages:
    """Load the images of ``path/<class>/``, in the order of class folders and then of file names.

    A class folder may have folders inside; hidden files, and files that are no images, are left out. Links
    are followed, as long as they lead to no folder or file of the set a second time.

    Args:
        path: a folder that holds one folder a class.
        classes: the class list that labels follow, if ``path`` may hold only some of the classes (found
            poison, say); None: the names of the class folders, sorted as text, or as numbers if all are
            numbers, see `class_names.classes_of_folders`.
        image_size: side to resize and centre-crop to; None: all images have one size.
        channels: 3 or 1.

    Raises:
        BadInput: no such folder; no class folders; images outside them; no images; without ``classes``, a
            class folder without images; a class folder not in ``classes``; numbers that do not tell the
            labels; an image format not readable here; what `image_tree.image_files` refuses.
    """
    folder = Path(path)
    found = _class_folders(folder)
    names = tuple(classes) if classes is not None else classes_of_folders(folder, found)
    _refuse_unknown(folder, found, names)
    files_of = image_files(folder, found)
    if classes is None:
        _refuse_empty_class(folder, files_of)
    files = tuple(file for name in found for file in files_of[name])
    if not files:
        raise BadInput(f"{folder} holds no images; {_expected(folder)}")
    label_of = {name: label for label, name in enumerate(names)}
    labels = [label_of[name] for name in found for _ in files_of[name]]
    store = ImageFiles(folder=str(folder), files=files)
    return EncodedImages(
        read=store.read,
        name=store.name,
        labels=torch.tensor(labels),
        classes=names,
        size=square(image_size),
        channels=channels,
    )


def _class_folders(folder: Path) -> list[str]:
    if not os.path.isdir(folder):
        reason = "is not a folder" if os.path.exists(folder) else "does not exist"
        raise BadInput(f"image folder {folder} {reason}; {_expected(folder)}")
    entries = listed(folder)
    found = {entry.name for entry in entries if is_folder(entry)}
    loose = [entry.path for entry in entries if entry.name not in found and is_image(entry.path)]
    if loose:
        raise BadInput(f"image {loose[0]} lies outside the class folders; {_expected(folder)}")
    if not found:
        raise BadInput(f"{folder} holds no class folders; {_expected(folder)}")
    return in_order(found)


def _refuse_unknown(folder: Path, found: list[str], classes: tuple[str, ...]) -> None:
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise BadInput(
            f"class folder {folder / unknown[0]} is none of the {len(classes)} classes "
            f"({_listing(classes)}); rename or remove it"
        )


def _refuse_empty_class(folder: Path, files_of: dict[str, list[str]]) -> None:
    empty = [name for name, files in files_of.items() if not files]
    if empty:
        raise BadInput(
            f"class folder {folder / empty[0]} holds no images; add {READABLE} images or remove it"
        )


def _expected(folder: Path) -> str:
    return f"expected one folder a class with {READABLE} images, such as {folder / 'cat' / '1.png'}"


def _listing(names: Sequence[str], limit: int = 10) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
