"""How a table or figure of a paper is laid out: its lines, its columns, and what each cell is made of.

What is asked of results stands in filters: expressions over the columns of results and the fields of
scenarios and settings, such as ``method = xlf and share >= 0.1``. Fields inside a field have dotted names:
``held_back.clean``, ``parameters.rounds``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ....errors import BadInput
from .numbers import KEY, Number, NumberKey, Paper

Drawing = Literal[
    "trade-off",
    "discovery share",
    "sensitivity",
    "time bars",
    "importance distribution",
    "ratio distribution",
    "class flips",
    "rounds",
]
FIGURES: tuple[str, ...] = get_args(Drawing)
"""The kinds of figures."""
SHARED = ("setting", "method", "scope", "metric", "measure")
"""What a cell takes from its line or from its column, whichever says it."""
SCALES = {"healed": 1.0, "damage": 1.0, "seconds": 1.0}
"""Measures of results that have the printed unit already; all others are shares, printed in percent."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Part(_Strict):
    """What lines and columns have in common.

    Attributes:
        title: as it is printed, in plain letters.
        group: what is printed over several columns, or beside several lines; empty for none.
        setting, method, scope, metric: of the printed numbers, see `Number`.
        measure: column of the results that holds theriac's value: "healed", "clean_accuracy", "seconds".
        item: which element of ``measure``, where that is a list.
        filter: which rows of the results belong here; empty for all.
        absent: why no row of theriac's can belong here; the printed number then stands alone.
    """

    title: str = Field(min_length=1)
    group: str = ""
    setting: str | None = None
    method: str | None = None
    scope: str | None = None
    metric: str | None = None
    measure: str | None = None
    item: int | None = Field(default=None, ge=0)
    filter: str = ""
    absent: str = ""


class Line(_Part):
    """A printed line of a table, or a curve or bar of a figure."""


class Column(_Part):
    """A printed column of a table, or a panel of a figure."""


class Gap(_Strict):
    """Cells without a number, or numbers without a cell: those that have all that is named.

    Attributes:
        setting, method, scope, metric: as in `Number`; None stands for any.
        why: one sentence.
    """

    setting: str | None = None
    method: str | None = None
    scope: str | None = None
    metric: str | None = None
    why: str = Field(min_length=1)

    def holds(self, key: NumberKey) -> bool:
        """Tell whether a number of this key is spoken of."""
        named = zip(KEY[2:], key[2:], strict=True)
        return all(getattr(self, name) in (None, value) for name, value in named)


class Cell(_Strict):
    """What a line and a column of a table come to.

    Attributes:
        key: of the printed number; None where nothing is printed (most figures).
        measure: column of the results; None where no row can belong here.
        item: which element of it, where it is a list.
        scale: factor from theriac's value to the printed unit.
        filter: which rows of the results belong here.
        absent: why none can.
    """

    key: NumberKey | None
    measure: str | None
    item: int | None
    scale: float
    filter: str
    absent: str


class PublishedTable(_Strict):
    """A table or figure of a paper.

    Attributes:
        name: "potion-table1", "ibau-fig2".
        paper: "potion" or "i-bau".
        table, figure: its number in the paper; one of them.
        title: one line in our own words.
        presets: sweeps that together give its rows; none: ``why`` says why.
        why: empty, or why no sweep gives it.
        draws: of a figure: its kind.
        x: of a figure: what stands on its horizontal axis, a column or field as in filters.
        setting, scope: of all its numbers, unless line or column says another.
        filter: which rows of the results belong to it at all.
        pools: columns and fields in which rows of one cell may differ and are averaged.
        spread: what the printed standard deviation is over.
        lines, columns: in printed order.
        missing: cells in which no number is printed, or can be read.
        unused: printed numbers that no cell shows.
        deviations: where theriac's preset differs from what the paper did, a sentence each.
        readings: how numbers were read that our text of the paper does not give plainly.
    """

    name: str
    paper: Paper
    table: int | None = Field(default=None, ge=1)
    figure: int | None = Field(default=None, ge=1)
    title: str = Field(min_length=1)
    presets: tuple[str, ...]
    why: str = ""
    draws: Drawing | None = None
    x: str | None = None
    setting: str | None = None
    scope: str | None = None
    filter: str = ""
    pools: tuple[str, ...] = ()
    spread: str = ""
    lines: tuple[Line, ...] = ()
    columns: tuple[Column, ...] = ()
    missing: tuple[Gap, ...] = ()
    unused: tuple[Gap, ...] = ()
    deviations: tuple[str, ...] = ()
    readings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Return how `Number` calls it: "1", "fig11"."""
        return str(self.table) if self.figure is None else f"fig{self.figure}"

    @model_validator(mode="after")
    def _makes_sense(self) -> PublishedTable:
        if (self.table is None) == (self.figure is None):
            raise BadInput(f"{self.name}: give the number of a table or that of a figure")
        if (self.figure is None) != (self.draws is None):
            raise BadInput(f"{self.name}: give a figure what it draws, and a table nothing")
        if bool(self.presets) == bool(self.why):
            raise BadInput(f"{self.name}: give presets, or say why there are none")
        if self.presets and not (self.lines and self.columns):
            raise BadInput(f"{self.name}: give what presets compute lines and columns")
        for line in self.lines:
            for column in self.columns:
                cell_of(self, line, column)
        return self


def cell_of(table: PublishedTable, line: Line, column: Column) -> Cell:
    """Put together what a line and a column of a table say.

    Raises:
        BadInput: both say the same thing, neither names the measure of a cell that rows belong to, or some
            words of the printed number's key are missing.
    """
    words = {name: _word(table, line, column, name) for name in SHARED}
    absent = line.absent or column.absent or table.why
    if not absent and words["measure"] is None:
        raise BadInput(f"{_place(table, line, column)}: name the measure in the line or in the column")
    parts = [part for part in (table.filter, line.filter, column.filter) if part]
    return Cell(
        key=_key(table, words, _place(table, line, column)),
        measure=None if absent else words["measure"],
        item=line.item if column.item is None else column.item,
        scale=SCALES.get(words["measure"] or "", 100.0),
        filter=" and ".join(f"({part})" for part in parts),
        absent=absent,
    )


def _word(table: PublishedTable, line: Line, column: Column, name: str) -> str | None:
    given: list[str] = [one for one in (getattr(line, name), getattr(column, name)) if one is not None]
    if len(given) > 1:
        place = _place(table, line, column)
        raise BadInput(f"{place}: {name} stands in the line and in the column; leave one out")
    otherwise: str | None = getattr(table, name, None)
    return given[0] if given else otherwise


def _key(table: PublishedTable, words: Mapping[str, str | None], place: str) -> NumberKey | None:
    """Return the key of the cell's number, if it has any."""
    if words["metric"] is None:
        return None
    lacking = [name for name in KEY[2:] if words[name] is None]
    if lacking:
        raise BadInput(f"{place}: name the {lacking[0]} of the printed number, too")
    return (table.paper, table.id, *(str(words[name]) for name in KEY[2:]))


def _place(table: PublishedTable, line: Line, column: Column) -> str:
    return f"{table.name}, line {line.title!r}, column {column.title!r}"


def check_numbers(table: PublishedTable, numbers: Mapping[NumberKey, Number]) -> None:
    """Check that every cell has its number and every number its cell, but for what the table excuses.

    Raises:
        BadInput: a cell without a number, a number without a cell, or an excuse for nothing.
    """
    keys = {cell_of(table, line, column).key for line in table.lines for column in table.columns} - {None}
    own = {key for key in numbers if key[:2] == (table.paper, table.id)}
    _excused(table, "missing", {key for key in keys if key} - own, "no number is printed for")
    _excused(table, "unused", own - keys, "no cell shows")


def _excused(
    table: PublishedTable, field: Literal["missing", "unused"], keys: set[NumberKey], what: str
) -> None:
    gaps: tuple[Gap, ...] = getattr(table, field)
    for key in sorted(keys):
        if not any(gap.holds(key) for gap in gaps):
            raise BadInput(f"{table.name}: {what} {', '.join(key)}; say why in {field}")
    for gap in gaps:
        if not any(gap.holds(key) for key in keys):
            raise BadInput(f"{table.name}: {field}: {gap.why!r} excuses nothing; leave it out")
