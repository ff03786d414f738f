"""A published table filled from results: theriac's value in each cell, and what is missing there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import BadInput
from ..averages import Averages, Groups, Rows, Spread, chosen, pooled
from ..store import SCHEMAS
from ..sweep import Task, failed_row, load_sweep
from .published import (
    Cell,
    Column,
    Line,
    Number,
    PublishedTable,
    cell_of,
    published_number,
)

CELL = ("share", "method", "search", "granularity", "settings", "uses_oracle")
"""What a row has in common with the cell of a preset that it is an answer to, beside the setup."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A cell of a published table.

    Attributes:
        ours: theriac's value in the printed unit; None where there is none.
        number: the printed one, if there is any.
        places: positions of the rows behind ours.
        present: how many of the preset's cells have a score.
        planned: how many there are.
        note: why something is missing; "" if nothing is.
    """

    ours: Spread | None
    number: Number | None
    places: np.ndarray
    present: int
    planned: int
    note: str

    @property
    def difference(self) -> float | None:
        """Return ours minus the printed value."""
        if self.ours is None or self.ours.mean is None or self.number is None:
            return None
        return self.ours.mean - self.number.value


class Comparison:
    """A published table, filled from results.

    Rows count that are what a cell of the table's presets asks for, with any seed. With ``loose``, rows of
    other set-ups and settings count as well where they match the filters of the table; in what they differ is
    said.

    Args:
        table: the published one.
        searches: rows of results, as `finished_searches` gives them.
        loose: count rows of other protocols.

    Raises:
        BadInput: the table has no preset, or no row belongs to it.
    """

    def __init__(self, table: PublishedTable, searches: pa.Table, *, loose: bool = False) -> None:
        if not table.presets:
            raise BadInput(f"{table.name} cannot be computed here: {table.why}; choose another table")
        if not _has_numbers(table):
            raise BadInput(
                f"{table.name} is a figure without printed numbers; choose a table, or draw the figure with "
                f"`theriac plot`"
            )
        self.table, self.loose, self._all = table, loose, Rows(searches)
        self.planned = _planned_rows(table.presets)
        self.rows = self._all.take(self._own())
        if not len(self.rows):
            raise self._nothing()

    def _own(self) -> np.ndarray:
        """Tell which rows belong to the table's presets."""
        if self.loose:
            return chosen(self._all, self.table.filter, lenient=True) if self.table.filter else self._every()
        asked = set(_identities(self.planned))
        return np.fromiter((one in asked for one in _identities(self._all)), bool, len(self._all))

    def _every(self) -> np.ndarray:
        return np.ones(len(self._all), bool)

    def _nothing(self) -> BadInput:
        names = ", ".join(self.table.presets)
        if self.loose:
            return BadInput(
                f"no row matches {self.table.name} ({self.table.filter}); run `theriac sweep {names}`"
            )
        return BadInput(
            f"no row of these results is a cell of {names} exactly as the presets say; run `theriac sweep "
            f"{self.table.presets[0]}`, or compare rows of another protocol with --loose"
        )

    @cached_property
    def cells(self) -> list[list[Compared]]:
        """Return every cell, line by line."""
        return [[self._compared(line, column) for column in self.table.columns] for line in self.table.lines]

    def _compared(self, line: Line, column: Column) -> Compared:
        cell, number = cell_of(self.table, line, column), published_number(self.table, line, column)
        if cell.absent or cell.measure is None:
            return Compared(
                ours=None, number=number, places=np.zeros(0, int), present=0, planned=0, note=cell.absent
            )
        places = np.flatnonzero(self._matches(self.rows, cell))
        asked = np.flatnonzero(self._matches(self.planned, cell))
        planned = {self._planned_keys[place] for place in asked}
        scored = places[self.rows.scored()[places] & ~np.isnan(self._values(cell)[places])]
        present = {self._keys[place] for place in scored}
        found = _Found(rows=self.rows.take_places(places), cell=cell, pools=self.table.pools)
        return Compared(
            ours=found.spread,
            number=number,
            places=places,
            present=len(present & planned),
            planned=len(planned),
            note="; ".join(filter(None, [found.mixed, *self._missing(planned, places, present)])),
        )

    def _matches(self, rows: Rows, cell: Cell) -> np.ndarray:
        if not cell.filter:
            return np.ones(len(rows), bool)
        return chosen(rows, cell.filter, lenient=True)

    def _values(self, cell: Cell) -> np.ndarray:
        return measured(self.rows, cell)

    @cached_property
    def _keys(self) -> list[tuple[Any, ...]]:
        """Return which cell each row answers to; loosely, set-up and settings do not matter."""
        return _identities(self.rows, LOOSE if self.loose else STRICT)

    @cached_property
    def _planned_keys(self) -> list[tuple[Any, ...]]:
        return _identities(self.planned, LOOSE if self.loose else STRICT)

    def _missing(self, planned: set[Any], places: np.ndarray, present: set[Any]) -> Iterator[str]:
        """Say why cells are missing: not run, or what their rows say."""
        keys = self._keys
        tried = {keys[place] for place in places}
        unrun = len(planned - tried)
        if unrun:
            yield f"{unrun} of {len(planned)} cells not run"
        failed = [place for place in places if keys[place] not in present]
        for row in self.rows.lines(("status", "error_class", "error_message"), np.array(failed[:1], int)):
            words = row["error_message"] or row["error_class"] or "no score"
            yield f"{len({keys[place] for place in failed})} {row['status']} ({words})"

    def notes(self) -> list[str]:
        """Say what the table pools, what was left out, and where theriac's protocol differs."""
        over = ", ".join(self.table.pools)
        printed = self.table.spread or "as printed"
        notes = [f"ours: mean ± sample standard deviation over {over}; paper: {printed}"]
        left = len(self._all) - len(self.rows)
        notes += [f"{left} rows of these results belong to no cell of this table"] if left else []
        notes += [f"not the presets' protocol: {words}" for words in self._otherwise()] if self.loose else []
        return notes + [f"differs from the paper: {words}" for words in self.table.deviations]

    def _otherwise(self) -> Iterator[str]:
        """Say which fields of the rows have other values than the presets."""
        for name in (
            *SPELLED,
            *(name for name in self.rows.names if name.split(".")[0] in TREES and "." in name),
        ):
            if name not in self.rows.names:
                continue
            own = {value for value in self.rows.coded(name).values if value is not None}
            known = self.planned.names
            asked = (
                {value for value in self.planned.coded(name).values if value is not None}
                if name in known
                else set()
            )
            if own - asked and name != "gate":
                yield f"{name} {_several(own)} where the presets have {_several(asked) or 'nothing'}"


def _has_numbers(table: PublishedTable) -> bool:
    return any(published_number(table, line, column) for line in table.lines for column in table.columns)


STRICT = ("setup", *CELL)
LOOSE = ("dataset", "attack", "manipulated", "share", "method", "search", "granularity")
SPELLED = ("model", "width", "image_size")
TREES = ("recipe", "attack_settings", "held_back", "settings")


def _several(values: set[Any]) -> str:
    return ", ".join(sorted(map(str, values)))[:60]


def _identities(rows: Rows, names: Sequence[str] = STRICT) -> list[tuple[Any, ...]]:
    """Return what tells cells apart, for each row."""
    columns = []
    for name in names:
        coded = rows.coded(name)
        columns.append([coded.values[code] for code in coded.codes])
    return list(zip(*columns, strict=True))


def _planned_rows(presets: Sequence[str]) -> Rows:
    tasks: list[Task] = [task for name in presets for task in load_sweep(name).tasks()]
    rows = [{**failed_row(task.scenario, task.cell, "", ""), "written_at": 0} for task in tasks]
    return Rows(pa.Table.from_pylist(rows, schema=SCHEMAS["searches"]))


def measured(rows: Rows, cell: Cell) -> np.ndarray:
    """Return a cell's measure of all rows, float64 [N], in the unit of the results."""
    if cell.measure is None:
        return np.full(len(rows), np.nan)
    if cell.item is None:
        return rows.numbers(cell.measure)
    lists = rows.table[cell.measure].to_pylist()
    return np.array([one[cell.item] if one and len(one) > cell.item else np.nan for one in lists], float)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the rows of one cell come to."""

    rows: Rows
    cell: Cell
    pools: Sequence[str]

    @cached_property
    def mixed(self) -> str:
        """Say why the rows of the cell must not be averaged; "" if they may."""
        pool = tuple(name for name in dict.fromkeys(("seed", *self.pools)) if name in self.rows.names)
        groups = pooled(self.rows, pool) if len(self.rows) else None
        if groups is None or len(groups) < 2:
            return ""
        return f"not averaged: the rows differ in more than {', '.join(pool)}"

    @property
    def spread(self) -> Spread | None:
        if not len(self.rows) or self.mixed:
            return None
        one = Groups(codes=np.zeros(len(self.rows), np.int64), first=np.zeros(1, np.int64))
        (found,) = Averages(self.rows, one).of_values(measured(self.rows, self.cell))
        return found and _scaled(found, self.cell.scale)


def _scaled(spread: Spread, scale: float) -> Spread:
    def times(value: float | None) -> float | None:
        return None if value is None else scale * value

    return Spread(mean=times(spread.mean), sd=times(spread.sd), median=times(spread.median), n=spread.n)
