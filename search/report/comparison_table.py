"""A published table beside what theriac computed: value, printed value, difference, and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from ...errors import BadInput
from ...rows import Row
from ..averages import Rows, Spread, chosen
from .comparison import Compared, Comparison
from .explain import read_cell, rows_behind
from .published import Column, cell_of, published_table
from .result_table import Column as Shown, ResultTable

PARTS = ("ours", "paper", "gap", "cells")
LONG_FIELDS = (
    *("line_group", "line", "column_group", "column", "measure"),
    *("ours", "ours_sd", "rows", "paper", "paper_sd", "difference", "present", "planned", "note"),
)


def published_comparison(
    searches: pa.Table, name: str, *, where: str = "", loose: bool = False, explain: str = ""
) -> ResultTable:
    """Set a published table beside results.

    Args:
        searches: rows of results, as `finished_searches` gives them.
        name: such as "potion-table1".
        where: an expression that chooses rows, see `theriac.search.averages.chosen`.
        loose: also count rows of other set-ups and settings than the presets', see `Comparison`.
        explain: "2:1", the number of a line and of a printed column: list the rows behind that cell instead.

    Raises:
        BadInput: there is no such table, no row of it, or no such cell.
    """
    rows = Rows(searches)
    chosen_rows = rows.take(chosen(rows, where)).table if where.strip() else searches
    comparison = Comparison(published_table(name), chosen_rows, loose=loose)
    return _explained(comparison, explain) if explain else compared_table(comparison)


def _explained(comparison: Comparison, cell: str) -> ResultTable:
    line, column = read_cell(cell, "a line and a printed column, both counted from 1, such as 2:1")
    lines, columns = len(comparison.table.lines), len(comparison.table.columns)
    if not (column.isdecimal() and 1 <= line <= lines and 1 <= int(column) <= columns):
        raise BadInput(
            f"--explain {cell}: the table has lines 1 to {lines} and printed columns 1 to {columns}; name one"
        )
    found = comparison.cells[line - 1][int(column) - 1]
    if not len(found.places):
        raise BadInput(
            f"--explain {cell}: no row is behind it ({found.note or 'nothing was run'}); name another"
        )
    return rows_behind(comparison.rows.table, found.places)


def compared_table(comparison: Comparison) -> ResultTable:
    """Arrange a comparison as printed: for each printed column ours, the paper's, the gap and the cells."""
    table = comparison.table
    columns = [_NAME] if not any(line.group for line in table.lines) else [_GROUP, _NAME]
    numbers = _numbered(comparison)
    rows = []
    for line, cells in zip(table.lines, comparison.cells, strict=True):
        row: Row = {"line_group": line.group, "line": line.title}
        for k, cell in enumerate(cells):
            row |= {f"{part}{k}": value for part, value in _parts(cell, numbers).items()}
        rows.append(row)
    shown = [*columns, *(one for k, column in enumerate(table.columns) for one in _columns(k, column))]
    notes = [f"[{number}] {note}" for note, number in numbers.items()]
    return ResultTable(
        caption=f"{table.name}: {table.title}",
        columns=tuple(column for column in shown if column.wanted(rows)),
        rows=tuple(rows),
        footnotes=(*notes, *comparison.notes()),
        fields=LONG_FIELDS,
        long_rows=tuple(_long(comparison)),
    )


_NAME = Shown(header="", fields=("line",), right=False, identity=True)
_GROUP = Shown(header="", fields=("line_group",), right=False, identity=True)


def _columns(k: int, column: Column) -> list[Shown]:
    group = f"{column.group}, {column.title}" if column.group else column.title
    heads = {"ours": "ours", "paper": "paper", "gap": "difference", "cells": "cells"}
    show: dict[str, Callable[[float], str]] = {"gap": lambda value: f"{value:+.2f}"}
    return [
        Shown(
            header=heads[part],
            fields=(f"{part}{k}",),
            group=group,
            show=show.get(part, lambda value: f"{value:.2f}"),
            only_if_any=True,
        )
        for part in PARTS
    ]


def _numbered(comparison: Comparison) -> dict[str, int]:
    notes = [cell.note for cells in comparison.cells for cell in cells if cell.note]
    return {note: number for number, note in enumerate(dict.fromkeys(notes), start=1)}


def _parts(cell: Compared, numbers: dict[str, int]) -> Row:
    note = [f"[{numbers[cell.note]}]"] if cell.note else []
    counted = [f"{cell.present} of {cell.planned}"] if cell.planned else []
    printed = cell.number
    paper = None if printed is None else Spread(mean=printed.value, sd=printed.sd, median=printed.value, n=1)
    return {
        "ours": cell.ours,
        "paper": paper,
        "gap": cell.difference,
        "cells": " ".join(counted + note) or None,
    }


def _long(comparison: Comparison) -> Iterator[Row]:
    """Yield a row for every cell, for programs."""
    table = comparison.table
    for line, cells in zip(table.lines, comparison.cells, strict=True):
        for column, cell in zip(table.columns, cells, strict=True):
            ours, number = cell.ours, cell.number
            yield {
                **{"line_group": line.group, "line": line.title},
                **{"column_group": column.group, "column": column.title},
                "measure": cell_of(table, line, column).measure,
                **{"ours": ours and ours.mean, "ours_sd": ours and ours.sd, "rows": len(cell.places)},
                **{"paper": number and number.value, "paper_sd": number and number.sd},
                **{"difference": cell.difference, "present": cell.present, "planned": cell.planned},
                "note": cell.note,
            }
