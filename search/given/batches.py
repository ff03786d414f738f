"""Whatever a user holds samples in, as batches that can be read again and again in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from ...datasets.views import BATCH_SIZE, View
from ...errors import BadInput
from ...unlearning.inference import Batch
from .held import Held, held, held_columns
from .loaders import Loaded, from_dataset, from_loader
from .pairs import as_columns
from .rereading import Reread

__all__ = ["Batch", "Batches", "as_batches", "check_classes", "class_names", "known_labels", "random_part"]

_FORMS = "a Dataset, a DataLoader, a pair (images, labels) or a list of (x, y)"


class Batches(Protocol):
    """Re-iterable (x, y) batches in a fixed order; ``len`` is the number of SAMPLES."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Batch]: ...

    def select(self, rows: Tensor) -> Batches:
        """Return the samples at ``rows``, int64, ascending."""
        ...


def random_part(batches: Batches, count: int) -> Batches:
    """Return ``count`` of the samples, in their order: always the same of as many; all if there are fewer.

    Args:
        batches: N samples.
        count: how many, at least 1.
    """
    if count >= len(batches):
        return batches
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(0))
    return batches.select(order[:count].sort().values)


def as_batches(data: Any, *, name: str, device: torch.device, batch_size: int = BATCH_SIZE) -> Batches:
    """Return ``data`` as `Batches` on ``device``.

    Args:
        data: one of

            - a `View`;
            - a map-style Dataset, or anything else with ``__getitem__`` and ``__len__``, such as a Dataset of
              Hugging Face. It gives samples or ready batches;
            - a DataLoader: every sample of its dataset or of its sampler, in the order of the dataset, what
              it drops at the end included. Batches of a fixed batch sampler, and workers, collation and the
              like, are kept. One that works in an ``__iter__`` of its own is read as it is and must not
              shuffle;
            - a pair (images, labels) of tensors, arrays or lists, or a mapping of two such columns;
            - a list, or an iterable that can be read more than once, of samples or of batches. Without
              ``__len__`` it is read up to a limit, see `held`.

            A sample or a batch is (x, y) or a mapping with one column of `IMAGE_KEYS` and one of
            `LABEL_KEYS`. x is a tensor or an array, y class numbers.
        name: what the data are called in error messages.
        device: where the batches end up.
        batch_size: samples per batch; DataLoaders and iterables of batches keep theirs.

    Raises:
        BadInput: nothing in it; data that can be read only once, whose order is not fixed, or that differ
            from one reading to the next; no labels, no images; images of mixed size; an error of the data
            themselves, which names the sample.
    """
    if isinstance(data, View):
        return _full(data.batched(batch_size), name)
    if isinstance(data, Held | Loaded | Reread):
        return data
    _refuse(data, name)
    if isinstance(data, DataLoader):
        return from_loader(data, name, device, batch_size)
    columns = as_columns(data, name)
    if columns is not None:
        return held_columns(*columns, name, device, batch_size)
    if not isinstance(data, list | tuple | IterableDataset) and _is_map_style(data):
        return from_dataset(data, name, device, batch_size)
    if isinstance(data, Iterable):
        return held(data, name, device, batch_size)
    raise BadInput(f"{name}: {type(data).__name__} holds no samples that can be read; give {_FORMS}")


def _full(view: View, name: str) -> View:
    if not len(view):
        raise BadInput(f"{name} is empty; give at least one sample")
    return view


def _refuse(data: Any, name: str) -> None:
    """Refuse what looks as if it held samples and does not."""
    if isinstance(data, str | Path):
        raise BadInput(
            f"{name}: {str(data)!r} is a path, and how its images were preprocessed is not known; give all "
            f"sets by load_sets(forget=..., retain=..., mean=..., std=...) of theriac.datasets.local"
        )
    if isinstance(data, Iterator):
        raise BadInput(
            f"{name}: a generator can be read only once and theriac needs several passes; give a list, a "
            f"Dataset or a DataLoader"
        )
    if isinstance(data, Tensor | np.ndarray):
        raise BadInput(
            f"{name}: {type(data).__name__} {tuple(data.shape)} has no labels; give a pair (images, labels)"
        )
    if isinstance(data, Set):
        raise BadInput(f"{name}: a {type(data).__name__} has no fixed order; give a list")
    if isinstance(data, Mapping) and any(isinstance(value, Dataset | DataLoader) for value in data.values()):
        names = ", ".join(repr(key) for key in list(data)[:5])
        raise BadInput(f"{name}: a {type(data).__name__} of several sets ({names}); give one of them")
    if isinstance(data, nn.Module | type):
        kind = "a model" if isinstance(data, nn.Module) else f"the class {data.__name__}"
        raise BadInput(f"{name}: {kind} holds no samples that can be read; give {_FORMS}")


def _is_map_style(data: Any) -> bool:
    return isinstance(data, Dataset) or (hasattr(data, "__getitem__") and hasattr(data, "__len__"))


def known_labels(batches: Batches) -> Tensor | None:
    """Return all labels, int64 [N], where they are known without reading images."""
    return batches.labels if isinstance(batches, View | Held) else None


def check_classes(sets: Mapping[str, Any]) -> None:
    """Refuse sets, as they were given, whose labels are positions in different lists of class names.

    A folder that holds only found poison has only the poison's class; read by itself, it numbers that 0.

    Raises:
        BadInput: names the first class that two lists number differently.
    """
    lists = {name: classes for name, data in sets.items() if (classes := class_names(data)) is not None}
    for name, classes in lists.items():
        for other, others in lists.items():
            differ = [n for n, pair in enumerate(zip(classes, others, strict=False)) if pair[0] != pair[1]]
            if differ:
                number = differ[0]
                raise BadInput(
                    f"class {number} is {classes[number]!r} in the {name} and {others[number]!r} in the "
                    f"{other}; number all labels by one list of classes: theriac.datasets.local has "
                    f"load_sets, which reads all sets by one, and load_images(..., classes=...)"
                )


def class_names(data: Any) -> tuple[str, ...] | None:
    """Return the class names that labels of ``data`` are positions in, where they are said.

    A `View` says them, and datasets with ``classes`` as torchvision's have, or ``features`` of Hugging Face.
    """
    while isinstance(inner := getattr(data, "dataset", None), Dataset):  # a DataLoader, a Subset
        data = inner
    parts = getattr(data, "datasets", None)  # of a ConcatDataset
    if isinstance(parts, list) and parts:
        lists = {class_names(part) for part in parts}
        return lists.pop() if len(lists) == 1 else None
    names = getattr(data, "classes", None)
    features = getattr(data, "features", None)
    if names is None and isinstance(features, Mapping):
        named = [getattr(feature, "names", None) for feature in features.values()]
        found = [one for one in named if one is not None]
        names = found[0] if len(found) == 1 else None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(names) or None
