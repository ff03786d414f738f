"""The papers' tables to which these results have rows, ours beside the printed numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from ....errors import BadInput
from ...averages import Rows, chosen
from ..comparison import Comparison
from ..comparison_table import compared_table
from ..published import PublishedTable, published_tables
from .grids import Grid, grid_of
from .results_read import ReadResults

DEVIATION = "differs from the paper: "
"""How notes of a comparison begin that are about the preset, not about these results."""


@dataclass(frozen=True, kw_only=True)
class BesidePaper:
    """A published table beside ours.

    Attributes:
        name: of the table, such as "potion-table1".
        title: what it shows.
        loose: ours is of another protocol than the paper's.
        cells: how many of the preset's cells are there, in words.
        grid: the table.
        deviations: in what theriac's protocol differs from the paper's.
    """

    name: str
    title: str
    loose: bool
    cells: str
    grid: Grid
    deviations: tuple[str, ...]


def beside_papers(results: ReadResults) -> list[BesidePaper]:
    """Set all published tables beside results that have rows of them.

    Rows of the paper's protocol are compared; those of others only where there are none of it.
    """
    return list(_compared(results.rows)) if len(results.searches) else []


def _compared(rows: Rows) -> Iterator[BesidePaper]:
    for table in published_tables().values():
        if not table.presets or not table.filter:
            continue
        where = chosen(rows, table.filter, lenient=True)
        comparison = _comparison(table, rows.take(where)) if where.any() else None
        if comparison is not None:
            yield _beside(comparison)


def _comparison(table: PublishedTable, rows: Rows) -> Comparison | None:
    """Compare strictly, else loosely; None where no cell of the table has anything of ours."""
    for loose in (False, True):
        try:
            found = Comparison(table, rows.table, loose=loose)
        except BadInput:
            continue
        if not loose or any(cell.ours for line in found.cells for cell in line):
            return found
    return None


def _beside(comparison: Comparison) -> BesidePaper:
    cells = [cell for line in comparison.cells for cell in line]
    filled = sum(cell.ours is not None and cell.ours.mean is not None for cell in cells)
    asked = sum(bool(cell.planned) for cell in cells)
    grid = grid_of(compared_table(comparison))
    notes = tuple(note for note in grid.notes if not note.startswith(DEVIATION))
    return BesidePaper(
        name=comparison.table.name,
        title=comparison.table.title,
        loose=comparison.loose,
        cells=f"{filled} of {asked} printed numbers have one of ours beside them",
        grid=replace(grid, notes=notes),
        deviations=tuple(note.removeprefix(DEVIATION) for note in grid.notes if note not in notes),
    )
