"""The averaged lines of the page, and the rows behind each, which a click on the line shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ....errors import printable
from ....rows import Row
from ..lines import ERRORS, arranged
from ..result_table import Column, ResultTable
from ..table_choice import TableChoice
from ..table_columns import CONTEXT_COLUMNS, STATUS_COLUMN, measure_columns
from .grids import Grid, grid_of
from .results_read import ReadResults

MOST_LINES = 2_000
"""Lines of the table that are in the page."""
MOST_ROWS = 6_000
"""Rows behind lines that are in the page, of all lines together."""
MOST_ROWS_OF_A_LINE = 40
MOST_NOTES = 20

KEY = Column(header="key", fields=("key",), right=False)
SEED = next(column for column in CONTEXT_COLUMNS if column.fields == ("seed",))
REASON = Column(header="reason", fields=("reason",), right=False, only_if_any=True)


@dataclass(frozen=True, kw_only=True)
class LinesSection:
    """The table of lines and what is behind it.

    Attributes:
        grid: the table.
        behind: data of the script: titles of columns, which of them are aligned right, and by line the number
            of rows and the texts of those that are in the page.
        left_out: what is not in the page, and the command that shows it.
    """

    grid: Grid
    behind: dict[str, Any]
    left_out: tuple[str, ...]


def lines_section(results: ReadResults) -> LinesSection:
    """Arrange the averaged lines, as many as a page can hold."""
    whole = results.table
    shown = replace(whole, rows=whole.rows[:MOST_LINES], footnotes=_short(whole.footnotes))
    counts, places = _places_behind(results, shown.rows)
    behind = _behind(results.searches, counts, places)
    return LinesSection(
        grid=grid_of(shown), behind=behind, left_out=tuple(_left_out(results, counts, places))
    )


def _short(notes: Sequence[str]) -> tuple[str, ...]:
    left = len(notes) - MOST_NOTES
    more = [f"and {left:,} more reasons; see Failures"] if left > 0 else []
    return (*notes[:MOST_NOTES], *more)


def _places_behind(results: ReadResults, lines: Sequence[Row]) -> tuple[list[int], list[np.ndarray]]:
    """Return how many rows each line has, and the positions of those that the page holds."""
    counts, places, room = [], [], MOST_ROWS
    for line in lines:
        members = results.lines.groups.members(int(line["group"]))
        taken = members[: min(room, MOST_ROWS_OF_A_LINE)]
        room -= len(taken)
        counts.append(len(members))
        places.append(taken)
    return counts, places


def _behind(searches: pa.Table, counts: list[int], places: list[np.ndarray]) -> dict[str, Any]:
    flat = np.concatenate([np.zeros(0, np.int64), *places])
    table = _rows_table(searches.take(pa.array(flat, pa.int64())))
    texts = iter(table.cells())
    return {
        "titles": table.titles,
        "right": [column.right for column in table.columns],
        "counts": counts,
        "rows": [[next(texts) for _ in taken] for taken in places],
    }


def _rows_table(searches: pa.Table) -> ResultTable:
    """Arrange rows one a line, in the order in which they come."""
    lines: list[Row | None] = [None] * len(searches)
    for line in arranged(searches, TableChoice()).lines:
        lines[line["group"]] = {**line, "status_note": line["status"], "reason": _reason(line)}
    rows = tuple(line for line in lines if line is not None)
    columns = (KEY, SEED, STATUS_COLUMN, *measure_columns(()), REASON)
    wanted = tuple(column for column in columns if column.wanted(rows))
    return ResultTable(caption="", columns=wanted, rows=rows, footnotes=(), fields=())


def _reason(line: Row) -> str | None:
    words = ": ".join(str(line[name]) for name in ERRORS if line.get(name))
    return printable(" ".join(words.split())[:300]) or None


def _left_out(results: ReadResults, counts: list[int], places: list[np.ndarray]) -> list[str]:
    total, held = len(results.table.rows), sum(map(len, places))
    notes = []
    if total > len(counts):
        notes.append(
            f"The table holds the first {len(counts):,} of {total:,} lines; the other "
            f"{total - len(counts):,} are shown by: {results.command('table', '--aggregate')}"
        )
    if held < len(results.searches):
        notes.append(
            f"{held:,} of {len(results.searches):,} rows can be opened here; those behind line 3, for "
            f"example, are listed by: {results.command('table', '--aggregate', '--explain', '3:healed')}"
        )
    return notes
