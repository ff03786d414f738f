"""A table of results before it has a format: columns, rows, and the text of every cell."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...errors import printable
from ...rows import Row
from ..averages import Spread

MISSING = "\N{EN DASH}"
ARROW = " → "
SOFT = "\N{SOFT HYPHEN}"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that people see.

    Args:
        header: its title; a soft hyphen marks where a narrow terminal may break it.
        group: a title over this and its neighbours of the same group.
        fields: the row's fields it shows; two are shown as "before → after".
        show: one number as text.
        right: align to the right.
        identity: says what a row is about; repeated where a terminal is too narrow for all columns.
        only_if_any: leave the column out if no row has a value.
        only_if_not: leave it out if no row has another value than this.
        judged: more (or less) of it is better, so that a method can be the best at it.
        lower_is_better: less of it is.
    """

    header: str
    fields: tuple[str, ...]
    group: str = ""
    show: Callable[[float], str] = str
    right: bool = True
    identity: bool = False
    only_if_any: bool = False
    only_if_not: float | None = None
    judged: bool = True
    lower_is_better: bool = False

    @property
    def title(self) -> str:
        """Return the whole title in one line."""
        header = self.header.replace(SOFT, "")
        return f"{self.group}: {header}" if self.group else header

    def wanted(self, rows: Sequence[Row]) -> bool:
        """Tell whether ``rows`` have anything to say in the column."""
        values = [row.get(self.fields[0]) for row in rows]
        if self.only_if_not is not None:
            return any(value is not None and not _is_all(value, self.only_if_not) for value in values)
        return not self.only_if_any or any(value is not None for value in values)


def _is_all(value: object, number: float) -> bool:
    """Tell whether a value, or everything in an average, is ``number``."""
    return value.mean == number and not value.sd if isinstance(value, Spread) else value == number


@dataclass(frozen=True, kw_only=True)
class ResultTable:
    """A table ready to be rendered.

    Args:
        caption: what all rows have in common.
        columns: what people see, from left to right.
        rows: field -> value; None is missing, `Spread` an average.
        footnotes: lines below the table.
        fields: the columns of the CSV, from left to right.
        averaged: those of them that hold `Spread` values.
        long_rows: rows of the CSV, where they are others than what people see; (): the same.
        statistic: what of a spread is shown: "sd" (with the mean), "interval" (with the mean) or "median".
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    fields: tuple[str, ...]
    averaged: tuple[str, ...] = ()
    statistic: str = "sd"
    long_rows: tuple[Row, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "caption", printable(self.caption))
        object.__setattr__(self, "footnotes", tuple(map(printable, self.footnotes)))

    def cells(self) -> list[list[str]]:
        """Return the rows as people see them, each cell on one line."""
        return [[_cell(self, column, row) for column in self.columns] for row in self.rows]

    @property
    def titles(self) -> list[str]:
        """Return the titles of the columns, each in one line."""
        return [column.title for column in self.columns]

    def best(self) -> list[list[bool]]:
        """Tell of each cell whether it is the best of its context, beyond chance."""
        return [[self.is_best(column, row) for column in self.columns] for row in self.rows]

    def is_best(self, column: Column, row: Row) -> bool:
        """Tell whether a cell is the best of its context, beyond chance."""
        return column.fields[-1] in row.get("best", ())


def _cell(table: ResultTable, column: Column, row: Row) -> str:
    texts = [_text(table, column, row.get(field)) for field in column.fields]
    return texts[0] if set(texts) == {MISSING} else ARROW.join(texts)


def _text(table: ResultTable, column: Column, value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, Spread):
        return _spread_text(table.statistic, column, value)
    return column.show(value) if isinstance(value, int | float) else printable(str(value))


def _spread_text(statistic: str, column: Column, value: Spread) -> str:
    if value.mean is None or value.median is None:
        return f"{MISSING} ({value.n})"
    if statistic == "median":
        return column.show(value.median)
    if statistic == "interval" and value.low is not None and value.high is not None:
        return f"{column.show(value.mean)} [{column.show(value.low)}, {column.show(value.high)}]"
    if statistic == "interval" or value.sd is None:
        return column.show(value.mean)
    return f"{column.show(value.mean)} ± {column.show(value.sd).lstrip('+')}"
