"""Datasets by name, and where they are looked for."""

from __future__ import annotations

import difflib
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...errors import BadInput
from ..file_checks import expanded
from ..own_code import call_part, is_own
from .decoding import in_memory, square
from .digits import IMAGE_SIZE as DIGITS_SIZE, load_digits
from .folder import load_folder
from .image_tree import listed
from .images import ImageSource, MemoryImages, on_device
from .parquet import load_parquet, names_in_file, visible_parquet
from .torchvision_sets import TORCHVISION

ROOT_VARIABLE = "THERIAC_DATA"
_TEST_NAMES = ("test", "val", "valid", "validation")
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

Splits = tuple[ImageSource, ImageSource]


class MissingDataset(BadInput):
    """A known dataset is not where it was looked for."""


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """What is known about a dataset before it is read.

    Args:
        name: what the user calls it, and the folder below the root.
        mean, std: of training images in [0, 1], one number a channel.
        fetch: how to get it; ``{folder}`` stands for its folder. None: it needs no fetching.
        published: how many training images, test images and classes it was published with.
        image_size: side used unless another is asked for; None: as stored.
    """

    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fetch: str | None
    published: tuple[int, int, int]
    image_size: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset:
    """Training and test images of one dataset, and its normalisation.

    Args:
        name: of the dataset.
        train: training images.
        test: test images, with the same classes and shape.
        mean, std: of images in [0, 1], one number a channel.

    Raises:
        BadInput: classes or shapes of the two splits differ, or mean and std are not one number a channel.
    """

    name: str
    train: ImageSource
    test: ImageSource
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.train.classes != self.test.classes:
            raise BadInput(f"dataset {self.name}: {_class_difference(self.train.classes, self.test.classes)}")
        if self.train.shape != self.test.shape:
            raise BadInput(
                f"dataset {self.name}: training images are {self.train.shape} and test images "
                f"{self.test.shape} (channels, height, width); give image_size to bring them to one size"
            )
        channels = self.shape[0]
        if not len(self.mean) == len(self.std) == channels:
            raise BadInput(
                f"dataset {self.name}: mean {self.mean} and std {self.std} for {channels} channels; "
                f"give one number a channel"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Return class names; label c is named ``classes[c]``."""
        return self.train.classes

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width) of every image."""
        return self.train.shape

    @property
    def held_bytes(self) -> int:
        """Count the bytes of pixels that sit decoded in memory."""
        sources = (self.train, self.test)
        return sum(source.pixels.nbytes for source in sources if isinstance(source, MemoryImages))

    def to(self, device: torch.device | str) -> ImageDataset:
        """Return the same dataset; pixels that sit decoded in memory are on ``device``."""
        return replace(self, train=on_device(self.train, device), test=on_device(self.test, device))


class Availability(NamedTuple):
    """Whether a dataset can be loaded; ``detail`` is where it is, or how to get it."""

    name: str
    found: bool
    detail: str


class LabelCounts(NamedTuple):
    """Training labels, int64 [N], numbers of test images and classes, and shape: None if it is not known."""

    train: Tensor
    test: int
    classes: int
    shape: tuple[int, int, int] | None = None


class _Found(NamedTuple):
    where: str
    load: Callable[[int | None], Splits]


def _by_torchvision(call: str) -> str:
    return f'python -c "import torchvision; {call}"'


DATASETS: dict[str, DatasetSpec] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            name="digits",
            mean=(0.3054,),
            std=(0.3186,),
            fetch=None,
            published=(1437, 360, 10),
            image_size=DIGITS_SIZE,
        ),
        DatasetSpec(
            name="cifar10",
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            fetch=_by_torchvision("torchvision.datasets.CIFAR10({folder!r}, download=True)"),
            published=(50_000, 10_000, 10),
        ),
        DatasetSpec(
            name="cifar100",
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            fetch=_by_torchvision("torchvision.datasets.CIFAR100({folder!r}, download=True)"),
            published=(50_000, 10_000, 100),
        ),
        DatasetSpec(
            name="gtsrb",
            mean=(0.3403, 0.3121, 0.3214),
            std=(0.2724, 0.2608, 0.2669),
            fetch=_by_torchvision(
                "[torchvision.datasets.GTSRB({folder!r}, split=s, download=True) for s in ('train', 'test')]"
            ),
            published=(26_640, 12_630, 43),
            image_size=32,
        ),
        DatasetSpec(
            name="imagenette",
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            fetch=_by_torchvision("torchvision.datasets.Imagenette({folder!r}, download=True)"),
            published=(9_469, 3_925, 10),
            image_size=224,
        ),
        DatasetSpec(
            name="imagenet",
            mean=_IMAGENET_MEAN,
            std=_IMAGENET_STD,
            fetch="register with ImageNet, put ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and "
            "ILSVRC2012_devkit_t12.tar.gz into {folder}, and unpack them with: "
            + _by_torchvision(
                "[torchvision.datasets.ImageNet({folder!r}, split=s) for s in ('train', 'val')]"
            ),
            published=(1_281_167, 50_000, 1000),
            image_size=224,
        ),
    )
}


def load_dataset(
    name: str,
    *,
    root: str | Path | None = None,
    image_size: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageDataset:
    """Load a dataset by name: small ones decoded in memory, large ones read when needed.

    ``<root>/<name>`` is searched for Parquet files, then class folders, then torchvision's layout.

    Args:
        name: a key of `DATASETS`, or a part of the user's own, see `theriac.datasets.own_code`.
        root: the folder that holds datasets; None: environment variable ``THERIAC_DATA``, else ``data``.
        image_size: side to resize and centre-crop to; None: the dataset's own.
        progress: called with (images decoded, images in all) for each split.

    Raises:
        MissingDataset: says which folder was looked at, what is expected there and how to fetch it.
        BadInput: unknown name, or data that cannot be read.

    Example:
        >>> load_dataset("digits", image_size=16).shape
        (1, 16, 16)
    """
    square(image_size)
    if is_own(name, "datasets"):
        return _own_dataset(name, root, image_size)
    spec = _spec(name)
    found = _find(spec, _folder(spec, root))
    if found is None:
        raise MissingDataset(_missing(spec, _folder(spec, root)))
    train, test = found.load(spec.image_size if image_size is None else image_size)
    return ImageDataset(
        name=spec.name,
        train=in_memory(train, progress=progress),
        test=in_memory(test, progress=progress),
        mean=spec.mean,
        std=spec.std,
    )


@functools.lru_cache(maxsize=8)
def labels_of(name: str, *, root: str | Path | None = None, image_size: int | None = None) -> LabelCounts:
    """Read the labels of a dataset, but no image; one that is not here is as large as published.

    Args:
        name: a key of `DATASETS`.
        root: see `load_dataset`.
        image_size: see `load_dataset`.

    Raises:
        BadInput: unknown name, data that cannot be read, or a size that is none.
    """
    square(image_size)
    if is_own(name, "datasets"):
        own = _own_dataset(name, root, image_size)
        return LabelCounts(own.train.labels, len(own.test), len(own.classes), own.shape)
    spec = _spec(name)
    found, side = _find(spec, _folder(spec, root)), spec.image_size if image_size is None else image_size
    if found is None:
        train, test, classes = spec.published
        shape = (len(spec.mean), side, side) if side else None
        return LabelCounts(torch.arange(train) % classes, test, classes, shape)
    training, testing = found.load(side)
    return LabelCounts(training.labels, len(testing), len(training.classes), training.shape)


def _own_dataset(name: str, root: str | Path | None, image_size: int | None) -> ImageDataset:
    dataset = call_part(name, "datasets", root=data_folder(root), image_size=image_size)
    if not isinstance(dataset, ImageDataset):
        raise BadInput(f"dataset {name}: it gave {type(dataset).__name__}; make it return an ImageDataset")
    return dataset


def available(root: str | Path | None = None) -> list[Availability]:
    """List every known dataset with where it was found, or how to get it. Nothing is read."""
    return [_availability(spec, _folder(spec, root)) for spec in DATASETS.values()]


def _availability(spec: DatasetSpec, folder: Path) -> Availability:
    found = _find(spec, folder)
    if found is not None:
        return Availability(spec.name, True, found.where)
    return Availability(spec.name, False, f"not in {folder}; {_remedy(spec, folder)}")


def _spec(name: str) -> DatasetSpec:
    if name not in DATASETS:
        close = difflib.get_close_matches(str(name).lower(), DATASETS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise BadInput(f"unknown dataset {name!r}; choose one of {', '.join(DATASETS)}{hint}")
    return DATASETS[name]


def data_folder(root: str | Path | None = None) -> Path:
    """Return the folder that holds datasets: ``root``, else that of ``THERIAC_DATA``, else ``data``."""
    return expanded(root or os.environ.get(ROOT_VARIABLE) or "data")


def _folder(spec: DatasetSpec, root: str | Path | None) -> Path:
    return data_folder(root) / spec.name


def _find(spec: DatasetSpec, folder: Path) -> _Found | None:
    if spec.name == "digits":
        return _Found("part of scikit-learn", load_digits)
    return _find_parquet(folder) or _find_folders(folder) or _find_torchvision(spec, folder)


def _find_parquet(folder: Path) -> _Found | None:
    train = _split_files(folder, "train")
    test = next((files for name in _TEST_NAMES if (files := _split_files(folder, name))), ())
    if not train or not test:
        return None
    return _Found(f"{train[0]} and {test[0]}", lambda image_size: _load_parquet(train, test, image_size))


def _split_files(folder: Path, split: str) -> tuple[Path, ...]:
    """Find ``<split>.parquet``, else Hugging Face's ``<split>-*.parquet``, else ``<split>/*.parquet``."""
    for pattern in (f"{split}.parquet", f"{split}-*.parquet", f"{split}/*.parquet"):
        files = visible_parquet(folder, pattern)
        if files:
            return files
    return ()


def _load_parquet(train: tuple[Path, ...], test: tuple[Path, ...], image_size: int | None) -> Splits:
    source = load_parquet(train, image_size=image_size)
    # Label numbers alone may stop short of the last class in the test files.
    classes = source.classes if names_in_file(test[0]) is None else None
    return source, load_parquet(test, classes=classes, image_size=image_size)


def _find_folders(folder: Path) -> _Found | None:
    train = folder / "train"
    test = next((folder / name for name in _TEST_NAMES if _has_folders(folder / name)), None)
    if test is None or not _has_folders(train):
        return None
    return _Found(
        f"{train} and {test}",
        lambda image_size: (
            load_folder(train, image_size=image_size),
            load_folder(test, image_size=image_size),
        ),
    )


def _has_folders(folder: Path) -> bool:
    return folder.is_dir() and any(entry.is_dir() for entry in listed(folder))


def _find_torchvision(spec: DatasetSpec, folder: Path) -> _Found | None:
    layout = TORCHVISION.get(spec.name)
    place = layout.find(folder) if layout else None
    if layout is None or place is None:
        return None
    return _Found(
        str(place),
        lambda image_size: (layout.load(folder, True, image_size), layout.load(folder, False, image_size)),
    )


def _missing(spec: DatasetSpec, folder: Path) -> str:
    layout = TORCHVISION.get(spec.name)
    own = f"; or {' or '.join(layout.markers)} as torchvision makes it" if layout else ""
    return (
        f"dataset {spec.name} was not found in {folder.absolute()} ({_holding(folder)}). Expected there: "
        f"train.parquet and test.parquet, or train/*.parquet and test/*.parquet; or class folders "
        f"train/<class>/ and test/<class>/ with images (instead of test also val, valid or validation){own}. "
        f"To fetch it, {_remedy(spec, folder)}. If you have it elsewhere, name the folder above it with root "
        f"or the environment variable {ROOT_VARIABLE}"
    )


def _holding(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    names = [entry.name for entry in listed(folder)]
    return f"it holds {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}" if names else "it is empty"


def _remedy(spec: DatasetSpec, folder: Path) -> str:
    fetch = (spec.fetch or "").replace("{folder!r}", repr(str(folder))).replace("{folder}", str(folder))
    return fetch if fetch.startswith("register") else f"run: {fetch}"


def _class_difference(train: tuple[str, ...], test: tuple[str, ...]) -> str:
    only_train = [name for name in train if name not in test]
    only_test = [name for name in test if name not in train]
    if not only_train and not only_test:
        return "training and test classes are in a different order; number the labels alike"
    return (
        f"training and test classes differ (only in training: {', '.join(only_train[:5]) or 'none'}; only in "
        f"test: {', '.join(only_test[:5]) or 'none'}); give both splits the same classes"
    )
