"""Tables turned: the values of a field side by side, as columns."""

from __future__ import annotations

from dataclasses import replace

from ...errors import BadInput
from ...rows import Row
from .line_names import sortable
from .result_table import Column, ResultTable
from .table_columns import STATUS_COLUMN

COUNTED = "n_note"


def pivoted(table: ResultTable, field: str) -> ResultTable:
    """Put the values of a field beside each other: each has the measures, and its n where there is one.

    Lines that differ in nothing else become one. The status of each cell is left out.

    Args:
        table: from `searches_table`.
        field: what its lines differ in, by the title of its column or the name of the field.

    Raises:
        BadInput: the lines do not differ in it.
    """
    turned = _column(table, field)
    name = turned.fields[0]
    values = sorted({row.get(name) for row in table.rows}, key=sortable)
    stays = [c for c in table.columns if c.identity and c not in (turned, *_counts(table))]
    measures = [c for c in table.columns if not c.identity and c.fields != STATUS_COLUMN.fields]
    shown = [
        _beside(column, turned.title, value) for value in values for column in (*_counts(table), *measures)
    ]
    return replace(
        table,
        columns=(*stays, *(column for column in shown if _is_there(table, column))),
        rows=tuple(_merged(table, stays, name, [*_counts(table), *measures])),
        fields=table.fields,
    )


def _column(table: ResultTable, field: str) -> Column:
    for column in table.columns:
        if column.identity and field in (column.title, column.fields[0]) and column.fields[0] != COUNTED:
            return column
    apart = [column.title for column in table.columns if column.identity and column.fields[0] != COUNTED]
    raise BadInput(
        f"--pivot {field}: the lines of this table do not differ in it; choose one of {', '.join(apart)}"
    )


def _counts(table: ResultTable) -> list[Column]:
    return [column for column in table.columns if column.fields[0] == COUNTED]


def _beside(column: Column, title: str, value: object) -> Column:
    """Return a column of one value of the turned field."""
    fields = tuple(_name(value, field) for field in column.fields)
    return replace(column, group=f"{title} {value}", fields=fields, identity=False)


def _name(value: object, field: str) -> str:
    return f"{field} at {value}"


def _is_there(table: ResultTable, column: Column) -> bool:
    """Tell whether a column of one value says anything."""
    pairs = [field.rsplit(" at ", 1) for field in column.fields]
    return any(row.get(field) is not None for row in table.rows for field, _ in pairs)


def _merged(table: ResultTable, stays: list[Column], name: str, moved: list[Column]) -> list[Row]:
    merged: dict[tuple[object, ...], Row] = {}
    for row in table.rows:
        place = tuple(row.get(column.fields[0]) for column in stays)
        line = merged.setdefault(place, {**row, "best": set()})
        for column in moved:
            for field in column.fields:
                line[_name(row.get(name), field)] = row.get(field)
            if table.is_best(column, row):
                line["best"].add(_name(row.get(name), column.fields[-1]))
    return list(merged.values())
