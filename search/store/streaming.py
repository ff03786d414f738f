"""The newest row of each key, a few rows at a time: for results that do not fit into memory."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from ...errors import BadInput
from .parts import UnusablePart, read_part
from .results import PAUSES, PartsChanged, ResultsStore, list_parts, schema_of

log = logging.getLogger(__name__)

BATCH_ROWS = 65_536
"""Rows that are handed on at a time, at most."""

_MARK = np.dtype([("high", np.uint64), ("low", np.uint64), ("moment", np.int64)])

Found = TypeVar("Found")


def newest_batches(
    results: Sequence[ResultsStore],
    table: str,
    change: Callable[[ResultsStore, pa.Table], pa.Table] = lambda _, rows: rows,
) -> Iterator[pa.Table]:
    """Yield the newest row of every key in one or several results folders, in order of the files.

    In memory are what one part holds, and for each row 24 bytes, twice as much while they are
    sorted. Files that cannot be used are left out, and named in warnings.

    Args:
        results: of rows with one key, the newest of all folders counts.
        table: "runs", "searches" or "steps".
        change: is given the rows of a part, and returns as many, such as with columns filled in.

    Raises:
        ValueError: unknown table.
        PartsChanged: a compaction took a part away; `repeated` begins again.
        BadInput: a part was written with another schema version.
    """
    schema = schema_of(table)
    parts, counts, kept = _looked_through(results, table)
    ends = np.cumsum(counts, dtype=np.int64)
    chosen = (
        change(store, _read(path, table, schema).filter(pa.array(kept[end - count : end])))
        for (store, path), count, end in zip(parts, counts, ends, strict=True)
        if kept[end - count : end].any()
    )
    yield from _evened(chosen)


def repeated(action: Callable[[], Found]) -> Found:
    """Run an action that reads results, again and again while compactions take away what it reads.

    Raises:
        BadInput: files vanish all the time.
    """
    for pause in PAUSES:
        time.sleep(pause)
        try:
            return action()
        except PartsChanged as change:
            log.debug("reading results again: %s", change)
    raise BadInput("files of the results vanish while they are read; do not delete results during a run")


def _looked_through(
    results: Sequence[ResultsStore], table: str
) -> tuple[list[tuple[ResultsStore, Path]], list[int], np.ndarray]:
    """Return the usable parts, how many rows each has, and which of all rows are the newest of their key."""
    schema = schema_of(table)
    narrow = pa.schema([schema.field("key"), schema.field("written_at")], schema.metadata)
    parts, found = [], []
    for store in results:
        for path in list_parts(store.directory / table):
            try:
                found.append(_marks(_read(path, table, narrow)))
                parts.append((store, path))
            except UnusablePart as error:
                log.warning("skipped results file %s: %s", path, error)
    counts = [len(marks) for marks in found]
    marks = np.concatenate([np.empty(0, _MARK), *found])
    found.clear()
    return parts, counts, _newest(marks)


def _marks(rows: pa.Table) -> np.ndarray:
    """Return of each row a digest of its key, in two halves, and its moment."""
    marks = np.empty(len(rows), _MARK)
    # of 16 bytes: two keys with one digest will not be met
    digests = b"".join(blake2b(key.encode(), digest_size=16).digest() for key in rows["key"].to_pylist())
    halves = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    marks["high"], marks["low"] = halves[:, 0], halves[:, 1]
    marks["moment"] = rows["written_at"].cast(pa.int64()).to_numpy()
    return marks


def _newest(marks: np.ndarray) -> np.ndarray:
    """Tell which rows, bool [N], are the newest of their key; of one moment, the last."""
    order = np.lexsort((marks["moment"], marks["low"], marks["high"]))
    last = np.ones(len(marks), bool)
    for half in ("high", "low"):
        ordered = marks[half][order]
        changes = ordered[1:] != ordered[:-1]
        last[:-1] = changes if half == "high" else last[:-1] | changes
    kept = np.zeros(len(marks), bool)
    kept[order[last]] = True
    return kept


def _read(path: Path, table: str, schema: pa.Schema) -> pa.Table:
    try:
        return read_part(path, table, schema)
    except UnusablePart as error:
        if not os.path.lexists(path):
            raise PartsChanged(f"{path.name} is gone") from error
        raise


def _evened(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Cut and join tables so that each but the last has `BATCH_ROWS` rows."""
    waiting: list[pa.Table] = []
    for rows in tables:
        waiting.append(rows)
        while sum(map(len, waiting)) >= BATCH_ROWS:
            whole = pa.concat_tables(waiting)
            yield whole.slice(0, BATCH_ROWS)
            rest = whole.slice(BATCH_ROWS)
            waiting = [rest] if len(rest) else []
    if waiting:
        yield pa.concat_tables(waiting)
