"""A table of results for a web page: plain markup without style or script."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import groupby

from .result_table import SOFT, ResultTable


def html_table(table: ResultTable) -> str:
    """Write a table element, its notes below; names from files are escaped and cannot be markup."""
    caption = [f"<caption>{escape(table.caption)}</caption>"] if table.caption else []
    body = [_line(table, cells, best) for cells, best in zip(table.cells(), table.best(), strict=True)]
    notes = [f"<p>{escape(note)}</p>" for note in table.footnotes]
    lines = [
        "<table>",
        *caption,
        "<thead>",
        *_head(table),
        "</thead>",
        "<tbody>",
        *body,
        "</tbody>",
        "</table>",
    ]
    return "\n".join([*lines, *notes]) + "\n"


def _head(table: ResultTable) -> Iterator[str]:
    if any(column.group for column in table.columns):
        groups = groupby(table.columns, key=lambda column: column.group)
        spans = ((title, len(list(columns))) for title, columns in groups)
        yield (
            "<tr>"
            + "".join(f'<th colspan="{count}">{escape(title)}</th>' for title, count in spans)
            + "</tr>"
        )
    yield "<tr>" + "".join(f"<th>{escape(c.header.replace(SOFT, ''))}</th>" for c in table.columns) + "</tr>"


def _line(table: ResultTable, cells: list[str], best: list[bool]) -> str:
    marked = [
        f"<strong>{escape(text)}</strong>" if bold else escape(text)
        for text, bold in zip(cells, best, strict=True)
    ]
    aligned = [' style="text-align:right"' if column.right else "" for column in table.columns]
    return (
        "<tr>" + "".join(f"<td{how}>{text}</td>" for how, text in zip(aligned, marked, strict=True)) + "</tr>"
    )
