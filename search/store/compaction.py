"""Merging small parts of a results table into few, beside any number of writers and readers.

A merged part holds the newest row of each key among the parts it replaces, with the moment it was written;
it is whole on disk under its name before they are deleted. Killed in between, rows are there twice, which
reading by the newest of each key does not mind, and the next compaction merges again. Only neighbours in the
order of names are merged, and the merged part takes the place of the last of them, so that rows of one
moment are told apart as before. Correct also where locks do not work, such as some network folders: whoever
deletes a part has published its rows.

Other programs that read the folder at that moment may find a file gone; let them read again.

Left where they are: parts of `LARGE_BYTES` and more, what cannot be read, and parts with columns that this
version of theriac does not know, which merging would lose.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout

from ...errors import BadInput
from .atomic import write_atomically
from .leftovers import remove_stale
from .parts import UnusablePart, open_part, read_part, write_part
from .results import (
    PartsChanged,
    ResultsStore,
    generation_file,
    list_parts,
    newest_rows,
    schema_of,
)
from .schemas import SCHEMAS

log = logging.getLogger(__name__)

TARGET_BYTES = 16 * 2**20
"""Parts are merged until the files that go into one have this size together."""
LARGE_BYTES = TARGET_BYTES // 2
"""A part of this size is not merged again."""
MARK = "_merged-"
"""In the names of merged parts; "_" sorts behind the "." of the part whose place they take."""


@dataclass(frozen=True, kw_only=True)
class LoadedPart:
    """A part and what it holds.

    Attributes:
        path: of the file.
        size: of the file, in bytes.
        rows: all of them, with the present schema.
    """

    path: Path
    size: int
    rows: pa.Table


def compact(results: ResultsStore, table: str | None = None, *, least: int = 32) -> int:
    """Merge small parts of results into few, while others append and read.

    Whatever stands in the way (another process compacts, a full disk, a broken part) is logged and leaves
    all rows in place: a sweep never fails for it.

    Args:
        results: whose parts.
        table: "runs", "searches" or "steps"; None for all.
        least: leave a table alone that has fewer small parts; at least 2.

    Returns:
        How many parts were replaced by merged ones.

    Raises:
        ValueError: unknown table, or ``least`` below 2.
    """
    if least < 2:
        raise ValueError(f"least = {least}: one part cannot be merged; give at least 2")
    tables = list(SCHEMAS) if table is None else [table]
    return sum(_compact_table(results.directory, name, schema_of(name), least) for name in tables)


def _compact_table(directory: Path, table: str, schema: pa.Schema, least: int) -> int:
    merged = 0
    try:
        if _count_small(directory / table) < least:
            return 0
        with compaction_lock(directory, table):
            for group in _groups(directory / table, table, schema):
                merged += replace_parts(group, table, schema)
            remove_stale(directory)
    except Timeout:
        log.debug("another process compacts %s of %s; nothing to do here", table, directory)
    except PartsChanged as change:
        log.debug("%s of %s is being compacted by another process: %s", table, directory, change)
    except (OSError, NotImplementedError, UnusablePart, pa.ArrowException) as error:
        log.warning("%s in %s was not merged further; nothing is lost: %s", table, directory, error)
    return merged


def compaction_lock(directory: Path, table: str) -> FileLock:
    """Return the lock of who replaces parts of a table; taking it raises `Timeout` where another has it."""
    (directory / "locks").mkdir(exist_ok=True)
    return FileLock(directory / "locks" / f"compact-{table}", timeout=0)


def _count_small(folder: Path) -> int:
    return sum(_size(path) < LARGE_BYTES for path in folder.glob("part-*.parquet"))


def _size(path: Path) -> int:
    """Return the size in bytes; a part that is gone is none to merge."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return LARGE_BYTES


def _groups(folder: Path, table: str, schema: pa.Schema) -> Iterator[list[LoadedPart]]:
    """Yield neighbours to merge, two or more, whose files have at most `TARGET_BYTES` together."""
    group: list[LoadedPart] = []
    for path in list_parts(folder):
        part = _mergeable(path, table, schema)
        size = sum(member.size for member in group)
        if part is None or size + part.size > TARGET_BYTES:
            yield from [group] if len(group) > 1 else []
            group = []
        group += [part] if part else []
    yield from [group] if len(group) > 1 else []


def _mergeable(path: Path, table: str, schema: pa.Schema) -> LoadedPart | None:
    size = _size(path)
    if size >= LARGE_BYTES or not path.name.startswith("part-"):
        return None
    try:
        with open_part(path, table) as part:
            known = set(part.schema_arrow.names) <= set(schema.names)
        return LoadedPart(path=path, size=size, rows=read_part(path, table, schema)) if known else None
    except (UnusablePart, BadInput) as error:
        log.debug("not merged: %s: %s", path, error)
        return None


def replace_parts(group: list[LoadedPart], table: str, schema: pa.Schema) -> int:
    """Put one part in the place of several, or of one; return of how many.

    It is published first; then readers in the middle of a listing are told, then the old ones are deleted.
    """
    last, directory = group[-1].path, group[-1].path.parents[1]
    merged = last.with_name(f"{last.stem.partition(MARK)[0]}{MARK}{uuid.uuid4().hex[:12]}.parquet")
    rows = newest_rows(pa.concat_tables([part.rows for part in group]))
    write_atomically(
        merged, lambda temporary: _write_checked(rows, temporary, table, schema), within=directory
    )
    token = uuid.uuid4().hex
    write_atomically(generation_file(last.parent), lambda temporary: _write_text(temporary, token))
    for part in group:
        part.path.unlink(missing_ok=True)
    return len(group)


def _write_checked(rows: pa.Table, path: Path, table: str, schema: pa.Schema) -> None:
    """Read back what was written: the only other copies are about to be deleted."""
    write_part(rows, path)
    if len(read_part(path, table, schema)) != len(rows):
        raise UnusablePart(f"{path} has lost rows on its way to the disk")


def _write_text(path: Path, text: str) -> None:
    path.write_text(text)
