"""Ordinary ways to pass data to `theriac.heal`, and ordinary mistakes in the data, for one table of tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    random_split,
)

Sample = tuple[Any, Any]
Samples = list[Any]
"""Samples, or functions that make them when they are read."""

BATCH = 64


class Rows(Dataset):
    """Samples at positions; a sample that is a function is called at every reading."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: int) -> Any:
        sample = self.samples[position]
        return sample() if callable(sample) else sample


class HuggingFaceLike:
    """Rows as dicts, columns by slices; a Dataset of no class that PyTorch knows."""

    def __init__(self, samples: Samples, image: str, label: str) -> None:
        self.rows, self.image, self.label = Rows(samples), image, label

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: int | slice | list[int] | str) -> Any:
        if isinstance(key, str):
            return [row[key] for row in self]
        if isinstance(key, slice | list):
            rows = [self[one] for one in (range(len(self))[key] if isinstance(key, slice) else key)]
            return {name: [row[name] for row in rows] for name in rows[0]}
        sample = self.rows[key]
        names = (self.image, self.label, "third")
        return {"id": None, **dict(zip(names, sample, strict=False))}

    def __iter__(self) -> Iterator[Any]:
        return (self[position] for position in range(len(self)))


class Stream(IterableDataset):
    def __init__(self, samples: Samples) -> None:
        self.rows = Rows(samples)

    def __iter__(self) -> Iterator[Any]:
        return (self.rows[position] for position in range(len(self.rows)))


class OnDevice(DataLoader):
    """As many libraries have it: the work is done in __iter__."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        for x, y in super().__iter__():
            yield x.clone(), y.clone()


class ByName(DataLoader):
    """A loader whose constructor has another signature."""

    def __init__(self, rows: Dataset, count: int) -> None:
        super().__init__(rows, batch_size=count)


def columns(samples: Samples) -> tuple[Tensor, Tensor]:
    """Images and labels, as far as they are tensors and numbers."""
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.stack([torch.as_tensor(label) for label in labels])


def doubled(samples: Samples) -> tuple[np.ndarray, np.ndarray]:
    """Arrays as numpy makes them of numbers: float64."""
    images, labels = (column.numpy() for column in columns(samples))
    return images.astype(np.float64) if images.dtype == np.float32 else images, labels


def ready(samples: Samples) -> Rows:
    """A dataset whose items are batches."""
    return Rows([default_collate(samples[i : i + BATCH]) for i in range(0, len(samples), BATCH)])


def named(samples: list[Any]) -> dict[str, Tensor]:
    """A collation that names its columns as Hugging Face's processors do."""
    x, y = default_collate(samples)
    return {"pixel_values": x, "labels": y}


def shuffled(data: Any) -> BatchSampler:
    return BatchSampler(RandomSampler(data), BATCH, drop_last=False)


def by_hand(count: int) -> list[list[int]]:
    return [list(range(start, min(start + BATCH, count))) for start in range(0, count, BATCH)]


def loader(samples: Samples, **how: Any) -> DataLoader:
    return DataLoader(Rows(samples), **{"batch_size": BATCH, **how})


def without_batch_size(samples: Samples, **how: Any) -> DataLoader:
    return DataLoader(Rows(samples), **how)


def halves(samples: Samples) -> list[Rows]:
    return [Rows(samples[: len(samples) // 2]), Rows(samples[len(samples) // 2 :])]


def split(samples: Samples) -> Dataset:
    return random_split(Rows(samples), [len(samples), 0], torch.Generator().manual_seed(0))[0]


STACKED: dict[str, Callable[[Samples], Any]] = {
    "tensors": columns,
    "tensors in a list": lambda s: list(columns(s)),
    "arrays": lambda s: tuple(column.numpy() for column in columns(s)),
    "arrays of float64": doubled,
    "columns by name": lambda s: dict(zip(("img", "label"), columns(s), strict=True)),
    "TensorDataset": lambda s: TensorDataset(*columns(s)),
    "batches in a list": lambda s: list(zip(*(c.split(BATCH) for c in columns(s)), strict=True)),
    "ready batches": ready,
    "loader of ready batches": lambda s: DataLoader(ready(s), batch_size=None),
    "loader of ready batches, shuffled": lambda s: DataLoader(ready(s), batch_size=None, shuffle=True),
}
"""Ways that hold whole batches of tensors. Their labels may be anything that a tensor holds."""

SINGLE: dict[str, Callable[[Samples], Any]] = {
    "samples in a list": lambda s: [one() if callable(one) else one for one in s],
    "Dataset": Rows,
    "ConcatDataset": lambda s: ConcatDataset(halves(s)),
    "Subset": lambda s: Subset(Rows(s), range(len(s))),
    "random_split": split,
    "rows with names": lambda s: HuggingFaceLike(s, "image", "label"),
    "rows with other names": lambda s: HuggingFaceLike(s, "pixel_values", "labels"),
    "stream": Stream,
    "loader": loader,
    "loader, shuffled": lambda s: loader(s, shuffle=True),
    "loader that drops": lambda s: loader(s, drop_last=True, shuffle=True),
    "loader, small batches": lambda s: loader(s, batch_size=10),
    "loader of single samples": lambda s: without_batch_size(s, batch_size=None),
    "loader with a random batch sampler": lambda s: without_batch_size(s, batch_sampler=shuffled(Rows(s))),
    "loader with batches by hand": lambda s: without_batch_size(s, batch_sampler=by_hand(len(s))),
    "loader with SubsetRandomSampler": lambda s: loader(s, sampler=SubsetRandomSampler(range(len(s)))),
    "loader with positions": lambda s: loader(s, sampler=list(range(len(s)))),
    "loader, the only process": lambda s: loader(s, sampler=DistributedSampler(Rows(s), 1, 0)),
    "loader with another collation": lambda s: loader(s, collate_fn=named),
    "loader of another class": lambda s: OnDevice(Rows(s), batch_size=BATCH),
    "loader of another signature": lambda s: ByName(Rows(s), BATCH),
}
"""Ways that give single samples: these may also be words and pictures, differ, or fail."""

WAYS = {**STACKED, **SINGLE}


class Broken:
    """A sample that cannot be read."""

    def __call__(self) -> Sample:
        raise OSError("image file is truncated\nand more about it")


def changing(sample: Sample) -> Callable[[], Sample]:
    """A sample with noise on it, as augmentation makes it."""
    return lambda: (sample[0] + torch.rand_like(sample[0]), sample[1])


def picture(image: Tensor) -> Image.Image:
    return Image.fromarray((image[0] * 255).byte().numpy())


def at(samples: Samples, position: int, sample: Any) -> Samples:
    return [*samples[:position], sample, *samples[position + 1 :]]


Mistake = tuple[Callable[[Samples], Samples], str]

ANYWHERE: dict[str, Mistake] = {
    "labels of floats": (lambda s: [(x, float(y)) for x, y in s], "labels are torch.float"),
    "labels of booleans": (lambda s: [(x, bool(y)) for x, y in s], "labels are torch.bool"),
    "one-hot labels": (lambda s: [(x, torch.eye(10).long()[y]) for x, y in s], r"argmax|class numbers"),
    "a label out of range": (lambda s: at(s, 130, (s[130][0], 10)), "label 10 at position .*0 to 9"),
    "a negative label": (lambda s: at(s, 130, (s[130][0], -1)), "label -1 at position .*0 to 9"),
    "three channels": (lambda s: [(x.repeat(3, 1, 1), y) for x, y in s], "cannot take images.*channels"),
    "bytes": (lambda s: [((x * 255).byte(), y) for x, y in s], "cannot take images uint8.*divided by 255"),
    "not finite": (
        lambda s: at(s, 3, (s[3][0] / 0, s[3][1])),
        r"sample \d+ of a batch holds NaN",
    ),
}

IN_SAMPLES: dict[str, Mistake] = {
    "pictures": (lambda s: [(picture(x), y) for x, y in s], "PIL|transform"),
    "words": (
        lambda s: [(x, f"class {y}") for x, y in s],
        "labels are .*class numbers|batch 0 cannot be read",
    ),
    "paths": (lambda s: [("a.png", y) for _, y in s], "not tensors|batch 0 cannot be read"),
    "labels alone": (lambda s: [(y, y) for _, y in s], "not tensors|not images|with labels"),
    "three parts": (lambda s: [(*one, 0) for one in s], "instead of .x, y.|too many values to unpack"),
    "other sizes": (
        lambda s: at(s, 0, (s[0][0][:, 1:], s[0][1])),
        "mixed size|of equal size|be equal size|cannot take images",
    ),
}

AT_READING: dict[str, Mistake] = {
    "augmented": (lambda s: [changing(one) for one in s], "differ from one reading to the next"),
    "truncated": (
        lambda s: at(s, 0, Broken()),
        r"(sample|item|batch) \d+ cannot be read.*image file is truncated",
    ),
}
"""Mistakes of data that are made when they are read; a list holds what was made once."""
