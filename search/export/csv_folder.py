"""Results as CSV: a file a table, all columns, safe to open in a spreadsheet."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from pyarrow import csv

from ...errors import BadInput
from ..report import formula_safe
from ..store import SCHEMAS, ResultsStore, repeated, write_atomically
from .destination import check_place, counted, not_written, refuse_existing
from .reading import batches, none_finished, opened

NAMES = {table: f"{table}.csv" for table in SCHEMAS}


def export_csv(results: Sequence[Path], out: Path, force: bool) -> str:
    """Write ``runs.csv``, ``searches.csv`` and ``steps.csv`` into a folder.

    The newest row of each key, with all columns. Texts that a spreadsheet would run as formulas begin with an
    apostrophe, lists are JSON, and what was not measured is empty.

    Args:
        results: folders of results.
        out: the folder, made if it is missing; other files in it stay.
        force: overwrite files of these names.

    Returns:
        A line that says what was written.

    Raises:
        BadInput: no finished search, or the folder cannot be written or holds such files.
    """
    stores = opened(results)
    _check(out, results, force)
    try:
        with TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}.", suffix=".tmp") as staging:
            made = Path(staging) / "csv"
            rows = {table: repeated(lambda: _written(stores, table, made)) for table in NAMES}  # noqa: B023
            if not rows["searches"]:
                raise none_finished(results)
            _publish(made, out)
    except OSError as error:
        raise not_written(out, error) from error
    said = ", ".join(f"{NAMES[table]} ({counted(number, 'row', 'rows')})" for table, number in rows.items())
    return f"{out}: {said}"


def _check(out: Path, results: Sequence[Path], force: bool) -> None:
    check_place(out, results)
    if os.path.lexists(out) and not out.is_dir():
        raise BadInput(f"--out {out} is a file; several are written: give a folder")
    for name in NAMES.values():
        refuse_existing(out / name, force)


def _written(stores: Sequence[ResultsStore], table: str, folder: Path) -> int:
    """Write one table and return how many rows it has."""
    count = 0

    def write(path: Path) -> None:
        nonlocal count
        schema = _plain(SCHEMAS[table].empty_table()).schema
        with csv.CSVWriter(path, schema) as writer:
            for rows in batches(stores, table):
                writer.write_table(_plain(rows))
                count += len(rows)

    write_atomically(folder / NAMES[table], write)
    return count


def _plain(rows: pa.Table) -> pa.Table:
    return pa.table({field.name: _plain_column(rows[field.name]) for field in rows.schema})


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as CSV can hold it; equal texts are looked at once."""
    if pa.types.is_list(column.type):
        texts = [None if one is None else json.dumps(one) for one in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    if not pa.types.is_string(column.type):
        return column
    coded = pa.concat_arrays(column.chunks or [pa.array([], pa.string())]).dictionary_encode()
    safe = pa.array([formula_safe(text) for text in coded.dictionary.to_pylist()], pa.string())
    return pa.chunked_array([safe.take(coded.indices)])


def _publish(made: Path, out: Path) -> None:
    """Give the files their names: all at once where the folder is new, else each at once."""
    if not out.exists():
        os.rename(made, out)
        return
    for name in NAMES.values():
        os.replace(made / name, out / name)
