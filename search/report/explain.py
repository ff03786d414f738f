"""The rows behind a number of a table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa

from ...errors import BadInput
from .distinctions import told_apart
from .lines import arranged
from .result_table import Column, ResultTable
from .table import searches_table
from .table_choice import TableChoice
from .table_columns import MEASURE_COLUMNS, measure_columns

KEY = Column(header="key", fields=("key",), right=False)
WANTED = "a line, counted from 1, and a measure"


def explained(searches: pa.Table, choice: TableChoice, cell: str) -> ResultTable:
    """List the rows that a cell of `searches_table` is made of, one a line, with their keys.

    Args:
        searches: as `searches_table` takes them.
        choice: likewise.
        cell: "3:healed": the line, counted from 1, and the measure.

    Raises:
        BadInput: there is no such cell.
    """
    line, measure = read_cell(cell, f"{WANTED} ({', '.join(MEASURE_COLUMNS)}), such as 3:healed")
    measure_columns([measure])
    found = arranged(searches, choice)
    lines, _, _ = told_apart(found, choice.by)
    if not 1 <= line <= len(lines):
        raise BadInput(f"--explain {cell}: the table has lines 1 to {len(lines)}; name one of them")
    behind = found.groups.members(int(lines[line - 1]["group"]))
    return rows_behind(found.rows.table, behind, (measure,))


def read_cell(cell: str, wanted: str) -> tuple[int, str]:
    """Take "3:healed" apart.

    Args:
        cell: as it was given.
        wanted: what it should be, for the message.

    Raises:
        BadInput: it is nothing like that.
    """
    line, _, column = cell.partition(":")
    if not line.strip().isdecimal() or not column.strip() or len(line) > 9:
        raise BadInput(f"--explain {cell}: name {wanted}")
    return int(line), column.strip()


def rows_behind(searches: pa.Table, places: np.ndarray, measures: tuple[str, ...] = ()) -> ResultTable:
    """Arrange some rows, one a line, with their keys."""
    chosen = searches.take(pa.array(places))
    table = searches_table(chosen, choice=TableChoice(columns=measures))
    return replace(table, columns=(KEY, *table.columns), fields=("key", *table.fields))
