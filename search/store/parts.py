"""The part files of a results table: Parquet of one schema, with a checksum of the whole file inside.

Pages of data have checksums of their own in Parquet; what describes them (names, types, numbers of rows) has
none. So a part also holds a digest of all its other bytes, in a gap before its footer that no reader looks
at. Parts without one, written by earlier versions, are read as they stand.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...errors import BadInput
from .schemas import ADDED, READABLE, SCHEMA_VERSION, TABLE_ENTRY, VERSION_ENTRY
from .small_files import NoFile, check_file

MOST_ROWS = 5_000_000
MOST_BYTES = 1 << 30
"""Rows of a part, and bytes of its columns in memory: far above what is ever written into one."""

_MARK = b"theriac sha256: "
_GAP = len(_MARK) + hashlib.sha256().digest_size
_PARQUET = b"PAR1"
_VERSION = str(SCHEMA_VERSION).encode()
_TAIL = 4 + len(_PARQUET)  # the length of the footer, and this
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_EARLIEST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


class UnusablePart(Exception):
    """Why a part cannot be read."""


def write_part(data: pa.Table, path: Path) -> None:
    """Write a table into a temporary file, with its checksum: `write_atomically` makes it a part."""
    buffer = pa.BufferOutputStream()
    pq.write_table(data, buffer, compression="zstd", write_page_checksum=True)
    content = buffer.getvalue().to_pybytes()
    footer = _footer_start(content)
    path.write_bytes(content[:footer] + _MARK + hashlib.sha256(content).digest() + content[footer:])


def open_part(path: Path, table: str, coded: Sequence[str] = ()) -> pq.ParquetFile:
    """Open a part whose checksum and origin are right; the caller closes it.

    Args:
        path: of the part.
        table: which it should belong to.
        coded: text columns that are read as dictionaries.

    Raises:
        UnusablePart: it is damaged, too large, no file, or not of theriac.
        BadInput: it was written with another schema version.
    """
    try:
        check_file(path, MOST_BYTES)
    except NoFile as error:
        raise UnusablePart(str(error)) from error
    except OSError as error:
        raise UnusablePart(f"truncated or not Parquet ({_one_line(error)})") from error
    try:
        content = pa.BufferReader(_sound(path))
        there = set(pq.read_schema(content).names) if coded else set()
        texts = [name for name in coded if name in there]
        part = pq.ParquetFile(content, page_checksum_verification=True, read_dictionary=texts)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UnusablePart(f"truncated or not Parquet ({_one_line(error)})") from error
    try:
        _check_origin(path, table, part.schema_arrow.metadata or {})
        _check_size(part.metadata)
    except Exception:
        part.close()
        raise
    return part


def read_part(path: Path, table: str, schema: pa.Schema) -> pa.Table:
    """Read all rows of one part, with the columns of ``schema``; raises as `open_part` does."""
    coded = [field.name for field in schema if pa.types.is_dictionary(field.type)]
    with open_part(path, table, coded) as part:
        try:
            there = [name for name in part.schema_arrow.names if name in schema.names]
            rows = _with_added(part.read(columns=there, use_threads=False), table, schema)
            rows = rows if rows.schema.equals(schema) else rows.select(schema.names).cast(schema)
            _check_values(rows)
        except (pa.ArrowException, OSError, ValueError, KeyError) as error:
            raise UnusablePart(
                f"damaged, or other columns than {table!r} has ({_one_line(error)})"
            ) from error
    return rows


def is_outdated(path: Path, table: str, schema: pa.Schema) -> bool:
    """Tell whether a part of a readable version has other columns than ``schema``, all of them known."""
    try:
        check_file(path, MOST_BYTES)
        there = pq.read_schema(path)
        _check_origin(path, table, there.metadata or {})
    except (NoFile, UnusablePart, BadInput, pa.ArrowException, OSError, ValueError):
        return False
    older = there.names != schema.names or there.metadata[VERSION_ENTRY] != _VERSION
    return older and set(there.names) <= set(schema.names)


def newest_moment(path: Path, table: str) -> datetime | None:
    """Return when the newest row of a part was written; None where that cannot be read."""
    try:
        with open_part(path, table) as part:
            found = pc.max(part.read(columns=["written_at"], use_threads=False)["written_at"]).value
    except (UnusablePart, BadInput, pa.ArrowException, OSError, ValueError, KeyError):
        return None
    return None if found is None or not _EARLIEST <= found <= _LATEST else moment_of(found)


def moment_of(microseconds: int) -> datetime:
    """Return the moment that a column of moments has as a number."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _sound(path: Path) -> bytes:
    """Read the content of a part, if its digest is right or it has none."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_PARQUET)))
        if file.read() != _PARQUET:
            raise ValueError("it does not end as Parquet does")
        file.seek(0)
        content = file.read()
    gap = _footer_start(content) - _GAP
    if gap < 0 or content[gap : gap + len(_MARK)] != _MARK:
        return content
    stated = content[gap + len(_MARK) : gap + _GAP]
    if hashlib.sha256(content[:gap] + content[gap + _GAP :]).digest() != stated:
        raise ValueError("its bytes do not match their checksum")
    return content


def _footer_start(content: bytes) -> int:
    """Return where the footer begins; below 0 if its length cannot be right."""
    return len(content) - _TAIL - int.from_bytes(content[-_TAIL : -len(_PARQUET)], "little")


def _check_origin(path: Path, table: str, entries: Mapping[bytes, bytes]) -> None:
    if VERSION_ENTRY not in entries or entries.get(TABLE_ENTRY) != table.encode():
        raise UnusablePart(f"not written by theriac as part of {table!r}; move it elsewhere")
    version = entries[VERSION_ENTRY].decode(errors="replace")
    if version not in READABLE:
        raise BadInput(
            f"{path} has results of schema version {version}, but this theriac reads versions "
            f"{' and '.join(READABLE)}; name another directory, or use the release that wrote this one"
        )


def _check_size(metadata: Any) -> None:
    size = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    if metadata.num_rows > MOST_ROWS or size > MOST_BYTES:
        raise UnusablePart(
            f"{metadata.num_rows} rows of {size} bytes are more than a part has ({MOST_ROWS} rows, "
            f"{MOST_BYTES} bytes); move it elsewhere"
        )


def _check_values(rows: pa.Table) -> None:
    """Check what the columns promise and Parquet does not keep: keys in all rows, moments in range."""
    for field in rows.schema:
        if not field.nullable and rows[field.name].null_count:
            raise ValueError(f"{field.name!r} is null in a row")
        if pa.types.is_timestamp(field.type):
            bounds = pc.min_max(rows[field.name].cast(pa.int64())).as_py()
            least, most = bounds["min"], bounds["max"]
            if least is not None and not (least >= _EARLIEST and most <= _LATEST):
                raise ValueError(f"{field.name!r} holds a moment outside the years 1 to 9999")
    rows.validate(full=True)  # text that is no UTF-8


def _with_added(rows: pa.Table, table: str, schema: pa.Schema) -> pa.Table:
    for name in ADDED[table]:
        if name in schema.names and name not in rows.schema.names:
            rows = rows.append_column(schema.field(name), pa.nulls(len(rows), schema.field(name).type))
    return rows


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
