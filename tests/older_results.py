"""Results as earlier versions of theriac wrote them, for tests."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from theriac.search.store.schemas import ADDED, DESCRIBING, VERSION_ENTRY


def made_older(part: Path, *, without: tuple[str, ...] = DESCRIBING) -> None:
    """Turn a part into one of version 1, which lacks some columns."""
    rows = pq.read_table(part)
    there = [name for name in rows.schema.names if name not in without]
    rows = rows.select(there)
    version = rows.schema.get_field_index("schema_version")
    rows = rows.set_column(version, "schema_version", pa.array([1] * len(rows), pa.int64()))
    pq.write_table(rows.replace_schema_metadata({**(rows.schema.metadata or {}), VERSION_ENTRY: b"1"}), part)


def oldest(part: Path, table: str) -> None:
    """Turn a part into one of version 1 that lacks all that ever came in."""
    made_older(part, without=ADDED[table])
