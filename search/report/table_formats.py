"""A table of results as text: fixed width, Markdown, LaTeX, CSV, or laid out for a terminal."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as RichTable
from rich.text import Text

from ...errors import BadInput, printable
from ...rows import Row

MISSING = "\N{EN DASH}"
ARROW = " → "
SOFT = "\N{SOFT HYPHEN}"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A mean over seeds: ``sd`` is the sample standard deviation (None for n = 1)."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that people see.

    Args:
        header: its title; a soft hyphen marks where a narrow terminal may break it.
        fields: the row's fields it shows; two are shown as "before → after".
        show: one number as text.
        right: align to the right.
        identity: says what a row is about; repeated where a terminal is too narrow for all columns.
        only_if_any: leave the column out if no row has a value.
        only_if_not: leave it out if no row has another value than this.
    """

    header: str
    fields: tuple[str, ...]
    show: Callable[[float], str] = str
    right: bool = True
    identity: bool = False
    only_if_any: bool = False
    only_if_not: float | None = None

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
    """

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[str, ...]
    fields: tuple[str, ...]
    averaged: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "caption", printable(self.caption))
        object.__setattr__(self, "footnotes", tuple(map(printable, self.footnotes)))

    def cells(self) -> list[list[str]]:
        """Return the rows as people see them, each cell on one line."""
        return [[_cell(column, row) for column in self.columns] for row in self.rows]


def _cell(column: Column, row: Row) -> str:
    texts = [_text(column, row.get(field), row.get("n")) for field in column.fields]
    return texts[0] if set(texts) == {MISSING} else ARROW.join(texts)


def _text(column: Column, value: object, n: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, Spread):
        return _spread_text(column, value, n)
    return column.show(value) if isinstance(value, int | float) else printable(str(value))


def _spread_text(column: Column, value: Spread, n: object) -> str:
    fewer = "" if value.n == n else f" ({value.n})"
    if value.sd is None:
        return column.show(value.mean) + fewer
    return f"{column.show(value.mean)} ± {column.show(value.sd).lstrip('+')}{fewer}"


def render(table: ResultTable, format: str) -> str:
    """Render the table as text.

    Args:
        table: from `searches_table`.
        format: "text" (fixed width, never cut or wrapped), "markdown", "latex" (needs booktabs) or "csv" (raw
            numbers: shares in [0, 1], full precision, missing values empty).

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
        yield _grid(table.columns, wide)
        return
    narrow = _drawn(table, narrow=True)
    for block in _blocks(table.columns, list(map(_width, narrow)), width):
        yield _grid([table.columns[i] for i in block], [narrow[i] for i in block])


def _drawn(table: ResultTable, narrow: bool) -> list[list[str]]:
    """Return the header and the cells of each column."""
    headers = [_broken(column.header) for column in table.columns] if narrow else _headers(table)
    lines = [headers, *table.cells()]
    return [
        [text.replace(ARROW, "→") if narrow else text for text in column]
        for column in zip(*lines, strict=True)
    ]


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


def _grid(columns: Sequence[Column], drawn: Sequence[Sequence[str]]) -> RichTable:
    grid = RichTable(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for column, texts in zip(columns, drawn, strict=True):
        grid.add_column(Text(texts[0]), justify="right" if column.right else "left", overflow="fold")
    for cells in zip(*(texts[1:] for texts in drawn), strict=True):
        grid.add_row(*map(Text, cells))
    return grid


def _headers(table: ResultTable) -> list[str]:
    return [column.header.replace(SOFT, "") for column in table.columns]


def _plain(table: ResultTable) -> str:
    lines = [_headers(table), *table.cells()]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    body = [_aligned(table, cells, widths) for cells in lines]
    rule = "  ".join("-" * width for width in widths)
    head = [table.caption] if table.caption else []
    return "\n".join([*head, body[0], rule, *body[1:], *table.footnotes]) + "\n"


def _aligned(table: ResultTable, cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(table.columns, cells, widths, strict=True)
    return "  ".join(
        c.rjust(width) if column.right else c.ljust(width) for column, c, width in pairs
    ).rstrip()


def _markdown(table: ResultTable) -> str:
    rule = ["---:" if column.right else ":---" for column in table.columns]
    rows = [[*map(_markdown_escape, cells)] for cells in [_headers(table), *table.cells()]]
    body = ["| " + " | ".join(cells) + " |" for cells in [rows[0], rule, *rows[1:]]]
    caption = [_markdown_escape(table.caption), ""] if table.caption else []
    notes = [line for note in table.footnotes for line in ("", _markdown_escape(note))]
    return "\n".join([*caption, *body, *notes]) + "\n"


def _latex(table: ResultTable) -> str:
    head, *body = (
        " & ".join(map(_latex_escape, cells)) + r" \\" for cells in [_headers(table), *table.cells()]
    )
    layout = "".join("r" if column.right else "l" for column in table.columns)
    caption = [rf"\caption{{{_latex_escape(table.caption)}}}"] if table.caption else []
    tabular = [
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        head,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    notes = [rf"\par{{\footnotesize {_latex_escape(note)}}}" for note in table.footnotes]
    return "\n".join([r"\begin{table}", r"\centering", *caption, *tabular, *notes, r"\end{table}"]) + "\n"


def _markdown_escape(text: str) -> str:
    return re.sub(r"[\\`*\[\]<>|]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z])", lambda found: f"\\{found[0]}", text)


def _latex_escape(text: str) -> str:
    return re.sub(r"(?<![\w.)}-])-(?=\d)", "$-$", text.translate(_LATEX).replace("--", "-{}-")).replace(
        MISSING, "--"
    )


_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"}
    | {"→": r"$\to$", "±": r"$\pm$"}
)


def _csv(table: ResultTable) -> str:
    names = [name for field in table.fields for name in _csv_names(field, field in table.averaged)]
    out = io.StringIO()
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    for row in table.rows:
        writer.writerow(dict(pair for field in table.fields for pair in _raw(field, row.get(field))))
    return out.getvalue()


def _csv_names(field: str, averaged: bool) -> tuple[str, ...]:
    return (f"{field}_mean", f"{field}_sd", f"{field}_n") if averaged else (field,)


def _raw(field: str, value: object) -> list[tuple[str, object]]:
    if isinstance(value, Spread):
        return list(zip(_csv_names(field, True), (value.mean, value.sd, value.n), strict=True))
    return [] if value is None else [(field, _as_text(value) if isinstance(value, str) else value)]


def _as_text(value: str) -> str:
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
    "latex": _latex,
    "csv": _csv,
}
