"""Images a user has on disk, class folders or Parquet, whichever a path turns out to be."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NotRequired, TypedDict

import torch

from ..errors import BadInput
from .sources import SUFFIXES, EncodedImages, load_folder, load_parquet, visible_parquet
from .views import View, plain_view

if TYPE_CHECKING:
    from .normalisation import Numbers

_REMEDY = "give a folder of class folders, such as cat/1.png, or Parquet files of images and labels"


def load_images(
    path: str | Path,
    *,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int = 3,
) -> EncodedImages:
    """Load a labelled set: ``path/<class>/*.png``, a ``.parquet`` file, or a folder of ``.parquet`` files.

    Args:
        path: folder or file. A folder with both is read as Parquet.
        classes: class names that labels follow, if this set may hold only some of them; class folders are
            then found by name, and labels in Parquet are positions in the list. None: the classes found.
            Sets that are used together need one list: see `load_sets`.
        image_size: side to bring all images to; None: they all have one size already.
        channels: 1 (grey) or 3 (RGB).

    Raises:
        BadInput: nothing there, nothing that is one of these, or ``classes`` that are no class names.
    """
    if not isinstance(path, str | os.PathLike):
        raise BadInput(f"images: {path!r:.60} is no path; {_REMEDY}")
    path, classes = Path(path), None if classes is None else _names(classes)
    if not os.path.exists(path):
        raise BadInput(f"{path} does not exist; {_REMEDY}")
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        raise BadInput(f"{path} is a single image, so its class is not known; {_REMEDY}")
    if path.is_dir() and not any(path.iterdir()):
        raise BadInput(f"{path} is empty; {_REMEDY}")
    if not path.is_dir() or visible_parquet(path):
        return load_parquet(path, classes=classes, image_size=image_size, channels=channels)
    return load_folder(path, classes=classes, image_size=image_size, channels=channels)


class Sets(TypedDict):
    """Keyword arguments of `heal`."""

    forget: View
    retain: View
    clean: NotRequired[View]


def load_sets(
    *,
    forget: str | Path,
    retain: str | Path,
    clean: str | Path | None = None,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int = 3,
    mean: Numbers = 0.0,
    std: Numbers = 1.0,
    device: torch.device | str = "cpu",
) -> Sets:
    """Load the sets of one healing under one list of classes: ``heal(model, **load_sets(...))``.

    A folder of found poison holds few of the classes. Read by itself, its only class folder would be class 0.

    Args:
        forget: the found poison: class folders or Parquet, see `load_images`.
        retain: the rest of the training set, likewise.
        clean: images known to be clean, likewise.
        classes: class names in the order of the model's outputs; None: those of ``retain``.
        image_size: see `load_images`.
        channels: likewise.
        mean: see `plain_view`.
        std: likewise.
        device: likewise.

    Returns:
        "forget", "retain" and, if given, "clean".

    Raises:
        BadInput: as `load_images` and `plain_view`; a class that is not in the list.
    """
    rest = load_images(retain, classes=classes, image_size=image_size, channels=channels)

    if classes is None:
        refuse_splits(
            Path(retain), rest.classes, [Path(forget), *([Path(clean)] if clean is not None else [])]
        )

    def view(source: EncodedImages) -> View:
        return plain_view(source, mean=mean, std=std, device=device)

    def by_its_classes(path: str | Path) -> View:
        return view(load_images(path, classes=rest.classes, image_size=image_size, channels=channels))

    sets: Sets = {"forget": by_its_classes(forget), "retain": view(rest)}
    if clean is not None:
        sets["clean"] = by_its_classes(clean)
    return sets


def refuse_splits(retain: Path, classes: Sequence[str], others: Iterable[Path]) -> None:
    """Refuse a folder of splits in place of one of class folders: its "classes" would be train and val.

    Args:
        retain: where the classes come from.
        classes: of its folders.
        others: the folders of the other sets, whose class folders tell.

    Raises:
        BadInput: a class folder of another set lies one level deeper in ``retain``.
    """
    named = [one.name for other in others if other.is_dir() for one in other.iterdir() if one.is_dir()]
    unknown = [name for name in named if name not in classes]
    splits = [one for one in classes if any((retain / one / name).is_dir() for name in unknown)]
    if splits:
        raise BadInput(
            f"{retain} holds the folders {', '.join(splits)}, and the class folders lie in these; "
            f"give {retain / splits[0]}"
        )


def _names(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes) if isinstance(classes, Iterable) and not isinstance(classes, str) else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise BadInput(f"classes = {classes!r:.60} is no list of class names; give the names as texts")
    if len(set(names)) < len(names):
        name, count = Counter(names).most_common(1)[0]
        raise BadInput(f"classes: {name!r} is there {count} times; give every class name once")
    return names
