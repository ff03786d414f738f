"""A table of results as text: fixed width, Markdown, LaTeX, HTML, CSV, or laid out for a terminal."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from ...errors import BadInput
from ..averages import Spread
from .html_table import html_table
from .latex_table import latex_table
from .result_table import ARROW, SOFT, Column, ResultTable

GROUP_WIDTH = 14
"""Where a terminal breaks the title of a group of columns."""
BEST = "^"
"""What follows the best cell of its context in plain text, where nothing can be bold."""
SPREAD_PARTS = ("mean", "sd", "median", "low", "high", "n")
"""Fields of a `Spread`, each with a column in CSV."""


def render(table: ResultTable, format: str) -> str:
    """Render the table as text.

    Args:
        table: from `searches_table`.
        format: "text" (fixed width, never cut or wrapped), "markdown", "latex" (needs booktabs, and longtable
            where it is long), "html" or "csv" (raw numbers: shares in [0, 1], full precision, missing values
            empty).

    Raises:
        BadInput: another format.
    """
    if format not in FORMATS:
        raise BadInput(f"there is no table format {format!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[format](table)


@dataclass(frozen=True, kw_only=True)
class TerminalTable:
    """The table for `rich.print`, fitted to the terminal.

    Where it does not fit, headers break and arrows close up; where that is still too wide, the columns are
    shown in several blocks, one below the other, each beginning with what the rows are about.
    """

    table: ResultTable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.table.caption:
            yield Text(self.table.caption, style="italic")
        yield from _grids(self.table, options.max_width)
        for note in self.table.footnotes:
            yield Text(note, style="dim")


def _grids(table: ResultTable, width: int) -> Iterator[RichTable]:
    wide = _drawn(table, narrow=False)
    if sum(map(_width, wide)) <= width + 1:
        yield _grid(table, range(len(table.columns)), wide)
        return
    narrow = _drawn(table, narrow=True)
    for block in _blocks(table.columns, list(map(_width, narrow)), width):
        yield _grid(table, block, narrow)


def _drawn(table: ResultTable, narrow: bool) -> list[list[str]]:
    """Return the header and the cells of each column."""
    lines = [_headers(table, narrow), *table.cells()]
    return [
        [text.replace(ARROW, "→") if narrow else text for text in column]
        for column in zip(*lines, strict=True)
    ]


def _headers(table: ResultTable, narrow: bool) -> list[str]:
    """Return the headers, those of groups with the group's title above the first of them."""
    found, before = [], ""
    for column in table.columns:
        header = _broken(column.header) if narrow else column.header.replace(SOFT, "")
        title = textwrap.wrap(column.group, GROUP_WIDTH) if column.group != before else []
        found.append("\n".join([*title, header]))
        before = column.group
    return found


def _broken(header: str) -> str:
    return header.replace(SOFT, "-\n") if SOFT in header else header.replace(" ", "\n", 1)


def _width(texts: Sequence[str]) -> int:
    return max(len(line) for text in texts for line in text.split("\n")) + 1  # and a space


def _blocks(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[list[int]]:
    identity = [i for i, column in enumerate(columns) if column.identity]
    blocks = [list(identity)]
    for i in (i for i, column in enumerate(columns) if not column.identity):
        full = sum(widths[j] for j in blocks[-1]) + widths[i] > width + 1
        if full and len(blocks[-1]) > len(identity):
            blocks.append(list(identity))
        blocks[-1].append(i)
    return blocks


def _grid(table: ResultTable, block: Sequence[int], drawn: Sequence[Sequence[str]]) -> RichTable:
    grid = RichTable(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    height = max((drawn[i][0].count("\n") for i in block), default=0)
    for i in block:
        justify: Any = "right" if table.columns[i].right else "left"
        header = "\n" * (height - drawn[i][0].count("\n")) + drawn[i][0]
        grid.add_column(Text(header), justify=justify, overflow="fold")
    for number, best in enumerate(table.best(), start=1):
        grid.add_row(*(Text(drawn[i][number], style="bold" if best[i] else "") for i in block))
    return grid


def _plain(table: ResultTable) -> str:
    cells = zip(table.cells(), table.best(), strict=True)
    marked = [[text + BEST * best for text, best in zip(*pair, strict=True)] for pair in cells]
    lines = [[column.header.replace(SOFT, "") for column in table.columns], *marked]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    above = _spanners(table, widths)
    body = [_aligned(table, texts, widths) for texts in lines]
    rule = "  ".join("-" * width for width in widths)
    head = [table.caption] if table.caption else []
    return "\n".join([*head, *above, body[0], rule, *body[1:], *table.footnotes]) + "\n"


def _spanners(table: ResultTable, widths: list[int]) -> list[str]:
    """Return the line of the groups' titles, if there is any; the last column makes room for a long one."""
    if not any(column.group for column in table.columns):
        return []
    parts, place = [], 0
    for group, columns in groupby(table.columns, key=lambda column: column.group):
        end = place + len(list(columns))
        widths[end - 1] += max(0, len(group) - _span(widths[place:end]))
        parts.append(group.ljust(_span(widths[place:end])))
        place = end
    return ["  ".join(parts).rstrip()]


def _span(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _aligned(table: ResultTable, cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(table.columns, cells, widths, strict=True)
    return "  ".join(
        c.rjust(width) if column.right else c.ljust(width) for column, c, width in pairs
    ).rstrip()


def _markdown(table: ResultTable) -> str:
    rule = ["---:" if column.right else ":---" for column in table.columns]
    titles = [*map(_markdown_escape, table.titles)]
    cells = zip(table.cells(), table.best(), strict=True)
    rows = [titles, *([*map(_markdown_cell, *pair)] for pair in cells)]
    body = ["| " + " | ".join(cells) + " |" for cells in [rows[0], rule, *rows[1:]]]
    caption = [_markdown_escape(table.caption), ""] if table.caption else []
    notes = [line for note in table.footnotes for line in ("", _markdown_escape(note))]
    return "\n".join([*caption, *body, *notes]) + "\n"


def _markdown_cell(text: str, best: bool) -> str:
    return f"**{_markdown_escape(text)}**" if best else _markdown_escape(text)


def _markdown_escape(text: str) -> str:
    return re.sub(r"[\\`*\[\]<>|]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", lambda found: f"\\{found[0]}", text)


def _csv(table: ResultTable) -> str:
    names = [name for field in table.fields for name in _csv_names(field, field in table.averaged)]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table.long_rows or table.rows:
        writer.writerow(dict(pair for field in table.fields for pair in _raw(field, row.get(field))))
    return out.getvalue()


def _csv_names(field: str, averaged: bool) -> tuple[str, ...]:
    return tuple(f"{field}_{part}" for part in SPREAD_PARTS) if averaged else (field,)


def _raw(field: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, Spread):
        parts = [getattr(value, part) for part in SPREAD_PARTS]
        return list(zip(_csv_names(field, True), parts, strict=True))
    return [] if value is None else [(field, formula_safe(value) if isinstance(value, str) else value)]


def formula_safe(value: str) -> str:
    """Make a text of a cell that looks like a formula, which a spreadsheet would run, by an apostrophe.

    A carriage return becomes a line feed: Python's writer does not quote it, and readers end the row there.
    """
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return f"'{value}" if value.startswith(FORMULA) and not _NUMBER.fullmatch(value) else value


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Beginnings of formulas, and what spreadsheets strip before they look; the last four are full-width."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

FORMATS: Mapping[str, Callable[[ResultTable], str]] = {
    "text": _plain,
    "markdown": _markdown,
    "latex": latex_table,
    "html": html_table,
    "csv": _csv,
}
