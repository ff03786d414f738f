"""Datasets in the folder layout that torchvision itself downloads and reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...errors import BadInput
from .decoding import EncodedImages, fit_to_size, square
from .folder import ImageFiles
from .images import ImageSource, MemoryImages

_GTSRB_CLASSES = tuple(str(number) for number in range(43))
_IMAGENETTE_SIZES = {"imagenette2": "full", "imagenette2-320": "320px", "imagenette2-160": "160px"}


@dataclass(frozen=True, kw_only=True)
class TorchvisionLayout:
    """One dataset in torchvision's own layout.

    Args:
        markers: folders, any of which shows that the dataset is there.
        load: reads a split: (folder given to torchvision, is it the training split, image size).
    """

    markers: tuple[str, ...]
    load: Callable[[Path, bool, int | None], ImageSource]

    def find(self, folder: Path) -> Path | None:
        """Return the first marker in ``folder``, None if there is none."""
        return next((folder / marker for marker in self.markers if (folder / marker).is_dir()), None)


def _torchvision() -> Any:
    from torchvision import datasets  # here, because it takes a second to import and Parquet needs none of it

    return datasets


def _cifar10(folder: Path, train: bool, image_size: int | None) -> ImageSource:
    return _cifar(folder, lambda: _torchvision().CIFAR10(folder, train=train, download=False), image_size)


def _cifar100(folder: Path, train: bool, image_size: int | None) -> ImageSource:
    return _cifar(folder, lambda: _torchvision().CIFAR100(folder, train=train, download=False), image_size)


def _cifar(folder: Path, open_dataset: Callable[[], Any], image_size: int | None) -> MemoryImages:
    dataset = _opened(folder, open_dataset)
    pixels = torch.from_numpy(dataset.data).permute(0, 3, 1, 2).contiguous()
    size = square(image_size)
    return MemoryImages(
        pixels=pixels if size is None else fit_to_size(pixels, size),
        labels=torch.tensor(dataset.targets),
        classes=tuple(dataset.classes),
    )


def _gtsrb(folder: Path, train: bool, image_size: int | None) -> ImageSource:
    split = "train" if train else "test"
    dataset = _opened(folder, lambda: _torchvision().GTSRB(folder, split=split, download=False))
    # The only place where torchvision keeps the paths; its public items are decoded images of mixed size.
    return _files(dataset._samples, _GTSRB_CLASSES, image_size)


def _imagenette(folder: Path, train: bool, image_size: int | None) -> ImageSource:
    size = next(size for place, size in _IMAGENETTE_SIZES.items() if (folder / place).is_dir())
    split = "train" if train else "val"
    dataset = _opened(folder, lambda: _torchvision().Imagenette(folder, split=split, size=size, loader=str))
    samples = [dataset[position] for position in range(len(dataset))]
    return _files(samples, tuple(names[0] for names in dataset.classes), image_size)


def _files(samples: list[tuple[str, int]], classes: tuple[str, ...], image_size: int | None) -> EncodedImages:
    store = ImageFiles(folder="", files=tuple(path for path, _ in samples))
    return EncodedImages(
        read=store.read,
        name=store.name,
        labels=torch.tensor([label for _, label in samples]),
        classes=classes,
        size=square(image_size),
    )


def _opened(folder: Path, open_dataset: Callable[[], Any]) -> Any:
    try:
        return open_dataset()
    except (RuntimeError, OSError) as error:
        raise BadInput(
            f"torchvision cannot read the dataset in {folder} ({error}); "
            f"it is incomplete or damaged: delete that folder and fetch the dataset again"
        ) from error


TORCHVISION: dict[str, TorchvisionLayout] = {
    "cifar10": TorchvisionLayout(markers=("cifar-10-batches-py",), load=_cifar10),
    "cifar100": TorchvisionLayout(markers=("cifar-100-python",), load=_cifar100),
    "gtsrb": TorchvisionLayout(markers=("gtsrb/GTSRB",), load=_gtsrb),
    "imagenette": TorchvisionLayout(markers=tuple(_IMAGENETTE_SIZES), load=_imagenette),
}
