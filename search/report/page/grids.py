"""Tables as the template of the page draws them: heads, and cells with what they are sorted by."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from ....rows import Row
from ...averages import Spread
from ..result_table import MISSING, SOFT, Column, ResultTable

COUNTS = {"n_note": "n"}
"""A text with a count in it -> the field that holds the count."""
LONG = 40
"""Characters of a text that stays on one line."""
ONE_SHOT = -1.0
"""What one-shot is sorted by: it comes before all shares."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell: its text, the number it is sorted by (None: by its text), and whether it is the best."""

    text: str
    number: float | None = None
    best: bool = False

    @property
    def long(self) -> bool:
        """Tell whether the text takes several lines."""
        return len(self.text) > LONG


@dataclass(frozen=True, kw_only=True)
class Head:
    """The title of a column."""

    title: str
    right: bool = True
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table of the page.

    Args:
        caption: above it; "" for none.
        heads: of its columns.
        rows: the cells of each line.
        notes: below it.
    """

    caption: str = ""
    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    @property
    def spans(self) -> list[tuple[str, int]]:
        """Return the titles over several columns and how many each spans; [] if there are none."""
        if not any(head.group for head in self.heads):
            return []
        return [(title, len(list(heads))) for title, heads in groupby(self.heads, key=lambda one: one.group)]


def grid_of(table: ResultTable) -> Grid:
    """Make a grid of a table of results."""
    heads = tuple(
        Head(title=column.header.replace(SOFT, ""), right=column.right, group=column.group)
        for column in table.columns
    )
    texts = zip(table.rows, table.cells(), table.best(), strict=True)
    rows = tuple(_cells(table.columns, *one) for one in texts)
    return Grid(caption=table.caption, heads=heads, rows=rows, notes=table.footnotes)


def _cells(
    columns: Sequence[Column], row: Row, texts: Sequence[str], best: Sequence[bool]
) -> tuple[Cell, ...]:
    return tuple(
        Cell(text=text, number=sorted_by(row.get(_field(column))), best=bold)
        for column, text, bold in zip(columns, texts, best, strict=True)
    )


def _field(column: Column) -> str:
    return COUNTS.get(column.fields[-1], column.fields[-1])


def sorted_by(value: object) -> float | None:
    """Return the number that a value is sorted by; None where it is none."""
    if isinstance(value, Spread):
        value = value.mean
    if value == "one_shot":
        return ONE_SHOT
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def plain_grid(
    heads: Sequence[Head], rows: Iterable[Sequence[object]], *, caption: str = "", notes: Sequence[str] = ()
) -> Grid:
    """Make a grid of plain values; None is shown as missing, whole numbers with commas."""
    cells = tuple(tuple(map(_plain_cell, row)) for row in rows)
    return Grid(caption=caption, heads=tuple(heads), rows=cells, notes=tuple(notes))


def _plain_cell(value: object) -> Cell:
    if value is None or value == "":
        return Cell(text=MISSING)
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return Cell(text=text, number=sorted_by(value))
