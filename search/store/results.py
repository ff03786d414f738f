"""Results as a directory of Parquet: crash-safe appends, and reads that a broken file cannot stop.

A table is a folder of part files. A part is written whole under a temporary name, flushed to disk and
renamed, so a file named ``part-*.parquet`` is always complete, whatever was killed; nothing is ever changed
afterwards. Rows carry a key, and reading takes the newest row of each key: a rerun replaces what it repeats
and adds what is new. `compaction` merges many small parts into few, `upgrade` gives all of them one schema.

DuckDB, pandas and polars read the folder of a table as it stands: nothing but parts lies in it. Temporary
files and the mark of a compaction are in the directory above.
"""

from __future__ import annotations

import errno
import logging
import operator
import os
import threading
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import BadInput
from .atomic import write_atomically
from .locations import checked_folder
from .parts import UnusablePart, open_part, read_part, write_part
from .row_clock import TICK, RowClock
from .schemas import SCHEMA_VERSION, SCHEMAS, STAMPS, coded_schema
from .small_files import check_file

log = logging.getLogger(__name__)

PAUSES = (0.0, 0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""Seconds before a table that changed while it was read is listed again; NFS may show old names for 60 s."""


@dataclass(frozen=True, kw_only=True)
class SkippedPart:
    """A file among the parts that could not be used, and why."""

    path: Path
    reason: str


class ResultsStore:
    """The tables ``runs``, ``searches`` and ``steps`` (see `schemas`) in one directory.

    Any number of processes, on any machines that share the directory, may append and read at the same time.

    Args:
        directory: where the tables are.
        create: make the directory if it is missing and check that it can be written; else only look.

    Raises:
        BadInput: the directory is a file, a URI or empty, cannot be written (``create``), does not exist (not
            ``create``), or holds results of another schema version.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from theriac.search.store import ResultsStore
        >>> with TemporaryDirectory() as folder:
        ...     _ = ResultsStore(folder).append("searches", [{"key": "a", "healed": 98.5}])
        ...     ResultsStore(folder).read("searches")["healed"].to_pylist()
        [98.5]
    """

    def __init__(self, directory: str | os.PathLike[str], *, create: bool = True) -> None:
        self.directory = checked_folder(directory, "results directory")
        self._skipped: dict[str, tuple[SkippedPart, ...]] = {}
        self._clocks = {table: RowClock(table) for table in SCHEMAS}
        if create:
            _prepare(self.directory)
        _check_directory(self.directory)
        for table in SCHEMAS:
            self._check_version(table)

    @property
    def skipped(self) -> tuple[SkippedPart, ...]:
        """Return the files that the latest `read` of each table had to leave out."""
        return tuple(part for parts in self._skipped.values() for part in parts)

    def append(self, table: str, rows: Sequence[Mapping[str, object]]) -> Path | None:
        """Write ``rows`` as one new part; columns left out are null.

        They are newer than all rows that are there, also where a clock was ahead when those were written:
        ``written_at`` is then the next moment after theirs.

        Args:
            table: "runs", "searches" or "steps".
            rows: column name -> value; ``key`` is required, ``written_at`` and ``schema_version`` are filled
                here.

        Returns:
            The part, which is on disk when this returns; None if there are no rows.

        Raises:
            ValueError: unknown table or column, missing key, or a value of a wrong type; nothing is written.
            BadInput: the directory cannot be written or the disk is full.
        """
        schema = schema_of(table)
        if not rows:
            return None
        moment = self._clocks[table].after(_next_moment(), _visible(self.directory / table))
        data = _to_arrow(rows, schema, moment)
        name = f"part-{moment:%Y%m%dT%H%M%S%fZ}-{uuid.uuid4().hex[:12]}.parquet"
        path = self.directory / table / name
        try:
            write_atomically(path, lambda temporary: write_part(data, temporary), within=self.directory)
        except OSError as error:
            raise _not_writable(self.directory, error) from error
        self._clocks[table].saw(path, data)
        return path

    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        searches: Collection[str] | None = None,
        coded: bool = False,
    ) -> pa.Table:
        """Read the newest row of every key, oldest first, with all columns asked for, even without rows.

        Of rows with one key the latest ``written_at`` counts, then the later file name, then the later row.
        Truncated or foreign files are left out, logged as warnings and listed in `skipped`.

        Args:
            table: "runs", "searches" or "steps".
            columns: only these, beside ``key`` and ``written_at``; None: all. Others are not read from disk.
            searches: of ``steps`` only the rows of searches with these keys; None: all.
            coded: texts beside the key are Arrow dictionaries, which take a fraction of the memory and time.

        Raises:
            ValueError: unknown table or column.
            BadInput: a part was written with another schema version.
        """
        schema = _projected(schema_of(table), columns, searches)
        schema = coded_schema(schema) if coded else schema
        contents = self._contents(table, schema, None if searches is None else pa.array(sorted(searches)))
        skipped = tuple(content for content in contents if isinstance(content, SkippedPart))
        for part in skipped:
            log.warning("skipped results file %s: %s", part.path, part.reason)
        self._skipped[table] = skipped
        good = [content for content in contents if isinstance(content, pa.Table)]
        return newest_rows(pa.concat_tables([schema.empty_table(), *good]))

    def _contents(
        self, table: str, schema: pa.Schema, searches: pa.Array | None
    ) -> list[pa.Table | SkippedPart]:
        """Read what the parts of one listing hold; begin again when a compaction takes a part away."""
        known: dict[Path, pa.Table | SkippedPart] = {}
        for pause in PAUSES:
            time.sleep(pause)
            try:
                parts = list_parts(self.directory / table)
                new = [path for path in parts if path not in known]
                known |= {path: _content(path, table, schema, searches) for path in new}
            except PartsChanged as change:
                log.debug("listing %s again: %s", self.directory / table, change)
                continue
            for path in parts:
                if searches is None and isinstance(known[path], pa.Table):
                    self._clocks[table].saw(path, known[path])
            return [known[path] for path in parts]
        raise BadInput(
            f"results directory {self.directory}: files of {table!r} vanish while they are read; "
            "do not delete results during a run"
        )

    def _check_version(self, table: str) -> None:
        """Look at the newest usable part only: `read` looks at all."""
        for path in reversed(_visible(self.directory / table)):
            try:
                open_part(path, table).close()
            except UnusablePart:
                continue
            return


class PartsChanged(Exception):
    """What a compaction did while the table was read."""


def list_parts(folder: Path) -> list[Path]:
    """List the parts of a table in order of their names: that of time.

    Looking at a folder takes time, in which a compaction may add the merged part behind the eye and delete
    the merged ones before it. It changes the generation in between: an unchanged one proves the list whole.

    Raises:
        PartsChanged: it is not whole; list again.
    """
    before = _generation(folder)
    parts = _visible(folder)
    if _generation(folder) != before:
        raise PartsChanged("parts were merged while they were listed")
    return parts


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.parquet") if path.name[0] not in "._")


def generation_file(folder: Path) -> Path:
    """Return the file beside a table's folder that every compaction of the table changes."""
    return folder.with_name(f".generation-{folder.name}")


def _generation(folder: Path) -> str:
    file = generation_file(folder)
    try:
        with suppress(FileNotFoundError):
            check_file(file)
        return file.read_text()
    except FileNotFoundError:
        return ""  # never compacted
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno == errno.ESTALE:  # NFS: replaced since it was opened
            raise PartsChanged("parts are being merged") from error
        raise BadInput(f"{file} cannot be read ({error}); remove it") from error


def _content(path: Path, table: str, schema: pa.Schema, searches: pa.Array | None) -> pa.Table | SkippedPart:
    try:
        rows = read_part(path, table, schema)
        return rows if searches is None else rows.filter(pc.is_in(rows["search"], searches))
    except UnusablePart as error:
        if not os.path.lexists(path):
            raise PartsChanged(f"{path.name} is gone") from error
        return SkippedPart(path=path, reason=str(error))


def schema_of(table: str) -> pa.Schema:
    """Find the schema of a table.

    Raises:
        ValueError: there is no such table.
    """
    if table not in SCHEMAS:
        raise ValueError(f"there is no table {table!r}; the tables are {', '.join(SCHEMAS)}")
    return SCHEMAS[table]


def _projected(
    schema: pa.Schema, columns: Sequence[str] | None, searches: Collection[str] | None
) -> pa.Schema:
    """Return the part of a schema that is read."""
    if searches is not None and schema is not SCHEMAS["steps"]:
        raise ValueError("only steps belong to searches; leave searches= out")
    if columns is None:
        return schema
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        raise ValueError(f"unknown column {unknown[0]!r}; the columns are {', '.join(schema.names)}")
    wanted = {"key", "written_at", *columns, *(() if searches is None else ("search",))}
    return pa.schema([field for field in schema if field.name in wanted], schema.metadata)


def _prepare(directory: Path) -> None:
    probe = directory / f".probe.{uuid.uuid4().hex[:8]}.tmp"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except (FileExistsError, NotADirectoryError):
        raise BadInput(
            f"results directory {directory}: it or a folder above it is a file; name a directory"
        ) from None
    except OSError as error:
        raise _not_writable(directory, error) from error


def _check_directory(directory: Path) -> None:
    if not directory.exists():
        raise BadInput(
            f"results directory {directory} does not exist; check the name, or run a sweep that writes to it"
        )
    if not directory.is_dir():
        raise BadInput(f"results directory {directory} is a file; name the directory that holds the results")
    for folder in (directory, *(directory / table for table in SCHEMAS)):
        if os.path.lexists(folder) and not folder.is_dir():
            raise BadInput(f"{folder} is no folder; move it elsewhere, or name another results directory")
        if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
            raise BadInput(f"{folder} cannot be read (Permission denied); change its permissions")


def _not_writable(directory: Path, error: OSError) -> BadInput:
    return BadInput(
        f"results directory {directory} cannot be written ({error.strerror or error}); "
        "change its permissions, free space, or name another directory"
    )


_clock = threading.Lock()
_latest = datetime.min.replace(tzinfo=UTC)


def _next_moment() -> datetime:
    """Return now, but later than all before: a clock set back must not let old rows win."""
    global _latest
    with _clock:
        _latest = max(datetime.now(UTC), _latest + TICK)
        return _latest


def _to_arrow(rows: Sequence[Mapping[str, object]], schema: pa.Schema, moment: datetime) -> pa.Table:
    for position, row in enumerate(rows):
        _check_row(position, row, schema)
    stamps = {"written_at": moment, "schema_version": SCHEMA_VERSION}
    columns = [
        _column(schema.field(name), [{**row, **stamps}.get(name) for row in rows]) for name in schema.names
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _check_row(position: int, row: Mapping[str, object], schema: pa.Schema) -> None:
    for name, value in row.items():
        if name in STAMPS or name not in schema.names:
            known = ", ".join(known for known in schema.names if known not in STAMPS)
            raise ValueError(f"row {position}: unknown column {name!r}; the columns are {known}")
        if isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError(f"row {position}: {name!r} has no time zone; give it one, such as datetime.UTC")
    if not row.get("key"):
        raise ValueError(f"row {position}: 'key' is missing; make it with row_key(...)")


def _column(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    try:
        if pa.types.is_integer(field.type):  # pyarrow would cut 1.5 to 1
            values = [None if value is None else operator.index(value) for value in values]
        return pa.array(values, type=field.type)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"column {field.name!r} ({field.type}): {error}") from error


def newest_rows(rows: pa.Table) -> pa.Table:
    """Return the newest row of each key, oldest first.

    Rows come in order of file names, and the sort is stable: the last row of a key is the newest.
    """
    moments = rows["written_at"].cast(pa.int64()).to_numpy()
    order = np.argsort(moments, kind="stable")
    codes = rows["key"].combine_chunks().dictionary_encode()
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    newest = np.zeros(len(codes.dictionary), dtype=np.int64)
    np.maximum.at(newest, codes.indices.to_numpy()[order], np.arange(len(rows)))
    kept = order if len(newest) == len(rows) else order[np.sort(newest)]
    if len(kept) == len(rows) and (np.diff(kept) == 1).all():
        return rows.combine_chunks()
    return rows.unify_dictionaries().combine_chunks().take(pa.array(kept))
