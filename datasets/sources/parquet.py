"""Images in Parquet files: one column of encoded images, one of labels."""

from __future__ import annotations

import bisect
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...errors import BadInput
from ..file_checks import check_file, parse_json
from .class_names import MOST_CLASSES
from .decoding import EncodedImages, square
from .images import check_labels
from .parquet_columns import (
    NULL_REMEDY,
    check_group,
    find_image_column,
    find_label_column,
    image_field,
    opened_parquet,
    read_labels,
    schema_of,
)

CACHE_BYTES = 1 << 30
_NAME_KEYS = (b"classes", b"class_names", b"label_names", b"labels")


class _Group(NamedTuple):
    path: Path
    number: int
    first_row: int


class ParquetBytes:
    """Encoded images of Parquet files, read a row group at a time; pickled as paths alone.

    The last row groups used, up to `CACHE_BYTES`, stay in memory. A larger set that is read in random order
    reads a row group for nearly every image: class folders serve that better.

    Args:
        paths: the files, in order.
        column: the column, or the field of a struct column (``image.bytes``), that holds encoded images.

    Raises:
        BadInput: a file is damaged, or has a row group that `parquet_columns.check_group` refuses.
    """

    def __init__(self, paths: Sequence[Path], column: str) -> None:
        self._paths = tuple(paths)
        self._column = column
        self._groups: list[_Group] = []
        self._ends: list[int] = []
        for path in self._paths:
            self._append(path)
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[ParquetBytes], tuple[tuple[Path, ...], str]]:
        return ParquetBytes, (self._paths, self._column)

    def read(self, position: int) -> bytes:
        """Return the encoded image at ``position``, counted over all files.

        Raises:
            BadInput: the file is damaged, or the value is null.
        """
        group = bisect.bisect_right(self._ends, position)
        with self._lock:
            values = self._values(group)
        value: bytes | None = values[position - self._start(group)].as_py()
        if value is None:
            raise BadInput(f"{self.name(position)} is null in column {self._column!r}; {NULL_REMEDY}")
        return value

    def name(self, position: int) -> str:
        """Return the row (from 0) and the file of ``position``, in words."""
        group = bisect.bisect_right(self._ends, position)
        row = position - self._start(group) + self._groups[group].first_row
        return f"row {row} of {self._groups[group].path}"

    def _append(self, path: Path) -> None:
        first_row = 0
        with opened_parquet(path) as file:
            for index in range(file.metadata.num_row_groups):
                group = file.metadata.row_group(index)
                check_group(path, group, self._column)
                self._groups.append(_Group(path, index, first_row))
                first_row += group.num_rows
                self._ends.append((self._ends[-1] if self._ends else 0) + group.num_rows)

    def _start(self, group: int) -> int:
        return self._ends[group - 1] if group else 0

    def _values(self, group: int) -> Any:
        if group not in self._cache:
            self._cache[group] = self._load(self._groups[group])
            while len(self._cache) > 1 and sum(held.nbytes for held in self._cache.values()) > CACHE_BYTES:
                self._cache.popitem(last=False)
        self._cache.move_to_end(group)
        return self._cache[group]

    def _load(self, group: _Group) -> Any:
        with opened_parquet(group.path, self._column) as file:
            return file.read_row_group(group.number, columns=[self._column]).flatten().column(0)


def load_parquet(
    path: str | Path | Iterable[str | Path],
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    classes: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int = 3,
) -> EncodedImages:
    """Load the images of one Parquet file, of several in the order given, or of a folder, sorted by name.

    Class names come from the schema metadata, if it holds a list under ``classes``, ``class_names``,
    ``label_names`` or ``labels`` (JSON, or separated by commas) or Hugging Face's features; else from
    ``classes``; else they are the label numbers as text, from "0" to the largest label.

    Args:
        path: file, files or folder.
        image_column: encoded images as binary, or as a struct with a ``bytes`` field (Hugging Face); None:
            ``image``, else ``img``.
        label_column: integers, or names of known classes; None: ``label``, else ``labels``, else
            ``fine_label``.
        classes: the class list that labels follow; it must agree with names in the files.
        image_size: side to resize and centre-crop to; None: all images have one size.
        channels: 3 or 1.

    Raises:
        BadInput: no file, a truncated or damaged file, no rows, a missing column or one of another type,
            nulls, a label out of range, class names that differ, or what `parquet_columns.check_group` and
            `read_labels` refuse. The file is named.
    """
    paths = parquet_files(path)
    columns = {image_field(file, find_image_column(file, image_column)) for file in paths}
    if len(columns) > 1:
        raise BadInput(
            f"{_naming(paths)}: the column of images differs between the files "
            f"({', '.join(sorted(columns))}); load them one by one"
        )
    names = _class_names(paths, label_column, classes)
    labels = torch.cat([read_labels(file, find_label_column(file, label_column), names) for file in paths])
    if not len(labels):
        raise BadInput(f"{_naming(paths)}: no rows; give a file that holds images")
    names = names or _numbers(paths, labels)
    _check(paths, labels, names)
    store = ParquetBytes(paths, columns.pop())
    return EncodedImages(
        read=store.read,
        name=store.name,
        labels=labels,
        classes=names,
        size=square(image_size),
        channels=channels,
    )


def parquet_files(path: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    """Return the Parquet files that ``path`` (file, files or folder) stands for.

    Raises:
        BadInput: a file does not exist, or a folder holds none.
    """
    if not isinstance(path, str | Path):
        files = tuple(file for item in path for file in parquet_files(item))
        if not files:
            raise BadInput("an empty list of Parquet files; give at least one")
        return files
    place = Path(path)
    if not os.path.exists(place):
        raise BadInput(f"Parquet file {place} does not exist; check the path")
    files = visible_parquet(place) if place.is_dir() else (place,)
    if not files:
        raise BadInput(f"folder {place} holds no *.parquet files; give a folder that does, or a file")
    for file in files:
        check_file(file, "Parquet file", remedy="give Parquet files of images and labels")
    return files


def visible_parquet(folder: Path, pattern: str = "*.parquet") -> tuple[Path, ...]:
    """List the files of a folder that are called as Parquet files are, sorted, without hidden ones.

    Args:
        folder: where to look, not below it.
        pattern: as `Path.glob` takes it.
    """
    return tuple(sorted(file for file in folder.glob(pattern) if not file.name.startswith(".")))


def names_in_file(path: Path, label_column: str | None = None) -> tuple[str, ...] | None:
    """Read the class names in the schema metadata of a file, None if it holds none.

    Raises:
        BadInput: the file or the metadata cannot be read, or there is no column of labels.
    """
    metadata: dict[bytes, bytes] = schema_of(path).metadata or {}
    label_column = find_label_column(path, label_column)
    try:
        if b"huggingface" in metadata:
            features = parse_json(metadata[b"huggingface"]).get("info", {}).get("features", {})
            names = features.get(label_column, {}).get("names")
            return tuple(names) if names else None
        found = [metadata[key].decode() for key in _NAME_KEYS if key in metadata]
        return _parsed_names(found[0]) if found else None
    except (AttributeError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}: its metadata does not hold a readable list of class names ({error}); "
            f"write the names as a JSON list under the key classes"
        ) from error


def _parsed_names(text: str) -> tuple[str, ...]:
    names = parse_json(text) if text.lstrip().startswith("[") else text.split(",")
    return tuple(str(name).strip() for name in names)


def _class_names(
    paths: Sequence[Path], label_column: str | None, given: Sequence[str] | None
) -> tuple[str, ...] | None:
    expected, origin = (None, "") if given is None else (tuple(given), "those given")
    for path in paths:
        names = names_in_file(path, label_column)
        if names and expected and names != expected:
            raise BadInput(f"{path}: its class names differ from {origin}: {_difference(names, expected)}")
        if names and expected is None:
            expected, origin = names, f"those of {path}"
    return expected


def _difference(names: tuple[str, ...], expected: tuple[str, ...]) -> str:
    for label, (name, other) in enumerate(zip(names, expected, strict=False)):
        if name != other:
            return f"class {label} is {name!r}, not {other!r}; number the labels alike"
    return f"there are {len(names)} classes, not {len(expected)}; number the labels alike"


def _numbers(paths: Sequence[Path], labels: Tensor) -> tuple[str, ...]:
    if labels.max() >= MOST_CLASSES:
        raise BadInput(
            f"{_naming(paths)}: label {int(labels.max())} would mean as many classes, of which at most "
            f"{MOST_CLASSES} are taken; correct the labels"
        )
    return tuple(str(label) for label in range(int(labels.max()) + 1))


def _check(paths: Sequence[Path], labels: Tensor, names: tuple[str, ...]) -> None:
    try:
        check_labels(labels, len(names))
    except BadInput as error:
        raise BadInput(f"{_naming(paths)}: {error}") from error


def _naming(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
