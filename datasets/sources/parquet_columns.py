"""Finds which columns of a Parquet file hold images and labels, and reads the labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from ...errors import BadInput
from ..file_checks import check_file

IMAGE_COLUMNS = ("image", "img")
"""Where images are looked for, in this order."""
LABEL_COLUMNS = ("label", "labels", "fine_label")
"""Where labels are looked for, in this order; Hugging Face's CIFAR-100 has fine and coarse ones."""
MOST_ROWS = 1 << 25
"""Most rows of a file; a file of a few bytes may state any number, and the labels sit in memory."""
MOST_GROUP_BYTES = 4 << 30
"""Most bytes of encoded images in one row group, which is read at once."""
MOST_EXPANSION = 100
"""Most times that images may be larger than in the file, from `FREE_BYTES` on."""
FREE_BYTES = 256 << 20
"""Row groups up to this size may shrink as much as they like; encoded images hardly do."""
NULL_REMEDY = "give encoded images in every row, or remove those rows"


@contextmanager
def opened_parquet(path: Path, dictionary: str | None = None) -> Iterator[Any]:
    """Open a `pyarrow.parquet.ParquetFile`; what Arrow cannot read in the block is an error that names it.

    Args:
        path: the file.
        dictionary: a column of bytes or text that is read as codes of distinct values: a value that the file
            holds once takes memory once.

    Raises:
        BadInput: no regular file, or it is damaged.
    """
    check_file(path, "Parquet file", remedy="give Parquet files of images and labels")
    try:
        place = path.absolute()  # a relative path with a colon would be taken for a URI
        with pq.ParquetFile(place, read_dictionary=[dictionary] if dictionary else None) as file:
            yield file
    except BadInput:
        raise
    except (pa.ArrowException, OSError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise BadInput(
            f"{path} cannot be read as Parquet ({reason}); it may be truncated or damaged: fetch it again"
        ) from error


def schema_of(path: Path) -> Any:
    """Read the Arrow schema of a file.

    Raises:
        BadInput: it cannot be read.
    """
    with opened_parquet(path) as file:
        return file.schema_arrow


def find_image_column(path: Path, given: str | None = None) -> str:
    """Find the column of images: the one given, or the first of `IMAGE_COLUMNS` that the file has.

    Raises:
        BadInput: there is none, or two of the name.
    """
    return _chosen(path, given, IMAGE_COLUMNS, "image_column")


def find_label_column(path: Path, given: str | None = None) -> str:
    """Find the column of labels: the one given, or the first of `LABEL_COLUMNS` that the file has.

    Raises:
        BadInput: there is none, or two of the name.
    """
    return _chosen(path, given, LABEL_COLUMNS, "label_column")


def _chosen(path: Path, given: str | None, usual: Sequence[str], argument: str) -> str:
    names = schema_of(path).names
    wanted = usual if given is None else (given,)
    name = next((one for one in wanted if one in names), None)
    if name is None:
        raise BadInput(
            f"{path} has no column {' or '.join(map(repr, wanted))}; its columns are "
            f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}: rename the right one to "
            f"{wanted[0]!r}, or load it in Python with load_parquet(..., {argument}=...)"
        )
    if names.count(name) > 1:
        raise BadInput(f"{path} has {names.count(name)} columns {name!r}; keep one of them")
    return name


def image_field(path: Path, column: str) -> str:
    """Name the leaf that holds the encoded images: the column itself, or its ``bytes`` field.

    Raises:
        BadInput: the column is of another type.
    """
    kind = schema_of(path).field(column).type
    if pa.types.is_struct(kind):
        if kind.get_field_index("bytes") < 0 or not _is_binary(kind.field("bytes").type):
            raise BadInput(
                f"{path}: column {column!r} is {_short(kind)}; "
                f"give encoded images as binary, or as a struct with a field bytes"
            )
        return f"{column}.bytes"
    if not _is_binary(kind):
        raise BadInput(
            f"{path}: column {column!r} is {_short(kind)}; give encoded images (PNG, JPEG, ...) as binary"
        )
    return column


def check_group(path: Path, group: Any, column: str) -> None:
    """Refuse a row group whose images would fill the memory, or of which some are null.

    Files without statistics are caught when the null is read.

    Raises:
        BadInput: see above.
    """
    for index in range(group.num_columns):
        chunk = group.column(index)
        if chunk.path_in_schema != column:
            continue
        size, stored = chunk.total_uncompressed_size, chunk.total_compressed_size
        if size > min(MOST_GROUP_BYTES, max(FREE_BYTES, MOST_EXPANSION * stored)):
            raise BadInput(
                f"{path}: a row group holds {size} bytes of images in {stored} bytes of the file; at most "
                f"{MOST_GROUP_BYTES >> 30} GiB and {MOST_EXPANSION} times are read: write smaller row groups "
                f"(row_group_size), and encoded images"
            )
        if chunk.is_stats_set and chunk.statistics.has_null_count and chunk.statistics.null_count:
            raise BadInput(
                f"{path} has {chunk.statistics.null_count} nulls in column {column!r}; {NULL_REMEDY}"
            )


def read_labels(path: Path, column: str, classes: Sequence[str] | None) -> Tensor:
    """Read the labels of a file, int64 [rows]; class names become their positions in ``classes``.

    Raises:
        BadInput: neither integers nor names, names without ``classes`` or none of them, nulls, numbers beyond
            64 bits, or more than `MOST_ROWS`.
    """
    kind = schema_of(path).field(column).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not pa.types.is_integer(kind) and not (texts and classes):
        names = "" if not texts else ", or tell the classes that the names are of (--classes, classes=[...])"
        raise BadInput(f"{path}: column {column!r} is {_short(kind)}; give labels as integers{names}")
    with opened_parquet(path, column if texts else None) as file:
        if file.metadata.num_rows > MOST_ROWS:
            raise BadInput(f"{path} states {file.metadata.num_rows} rows; give files of at most {MOST_ROWS}")
        values = file.read(columns=[column]).column(0)
    if values.null_count:
        raise BadInput(f"{path} has {values.null_count} nulls in column {column!r}; remove those rows")
    return _by_name(path, column, values, classes or ()) if texts else _integers(path, column, values)


def _integers(path: Path, column: str, values: Any) -> Tensor:
    try:
        return torch.from_numpy(values.cast(pa.int64()).to_numpy().copy())
    except pa.ArrowInvalid as error:
        raise BadInput(
            f"{path}: column {column!r} holds numbers that are no labels ({error}); number them 0, 1, 2, ..."
        ) from error


def _by_name(path: Path, column: str, values: Any, classes: Sequence[str]) -> Tensor:
    encoded = values.dictionary_encode().combine_chunks() if len(values) else values.dictionary_encode()
    chunk = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    label_of = {name: label for label, name in enumerate(classes)}
    names = chunk.dictionary.to_pylist()
    unknown = [name for name in names if name not in label_of]
    if unknown:
        raise BadInput(
            f"{path}: column {column!r} holds {unknown[0]!r:.60}, which is none of the {len(classes)} "
            f"classes ({', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}); correct the names"
        )
    codes = chunk.indices.to_numpy(zero_copy_only=False)
    return torch.from_numpy(np.array([label_of[name] for name in names], dtype=np.int64)[codes])


def _is_binary(kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _short(kind: Any) -> str:
    text = " ".join(str(kind).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
