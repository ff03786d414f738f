"""The tables and figures of the papers by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from pydantic import ValidationError

from ....errors import BadInput, closest
from ...sweep import preset_names
from .layout import Column, Line, PublishedTable, cell_of, check_numbers
from .numbers import Number, all_numbers

LAYOUTS = ("potion_tables.yaml", "potion_figures.yaml", "ibau.yaml")


def published_tables() -> dict[str, PublishedTable]:
    """Return name -> table or figure, those of Potion first, each paper's tables before its figures.

    Example:
        >>> from theriac.search.report.published import published_tables
        >>> published_tables()["potion-table1"].presets
        ('potion-table1', 'potion-table1-cifar100')
    """
    return dict(_tables())


def published_table(name: str) -> PublishedTable:
    """Return the table or figure of that name.

    Raises:
        BadInput: there is none; suggests the closest.
    """
    tables = _tables()
    if name not in tables:
        raise BadInput(f"unknown table {name!r}; choose one of {', '.join(tables)}{closest(name, tables)}")
    return tables[name]


def published_number(table: PublishedTable, line: Line, column: Column) -> Number | None:
    """Return what the paper prints in a cell; None where it prints nothing, or nothing that can be read.

    Args:
        table: whose line and column these are.
        line: one of its lines.
        column: one of its columns.
    """
    key = cell_of(table, line, column).key
    return None if key is None else all_numbers().get(key)


@cache
def _tables() -> Mapping[str, PublishedTable]:
    folder = files(__package__).joinpath("layouts")
    trees = [yaml.safe_load(folder.joinpath(name).read_text(encoding="utf-8")) for name in LAYOUTS]
    return read_tables(trees, all_numbers(), preset_names())


def read_tables(
    trees: Iterable[Mapping[str, Any]], numbers: Mapping[Any, Number], presets: Iterable[str]
) -> dict[str, PublishedTable]:
    """Make tables of what layout files say, and check them.

    Args:
        trees: name -> fields of `PublishedTable` without the name, a mapping a file.
        numbers: all printed ones, by key.
        presets: names of the sweeps that there are.

    Raises:
        BadInput: an unknown field or preset, a name that comes twice, a cell without a number, or a number
            that no table shows.
    """
    found: dict[str, PublishedTable] = {}
    for name, fields in (pair for tree in trees for pair in tree.items()):
        if name in found:
            raise BadInput(f"{name} is laid out twice; give every table once")
        found[name] = _table(name, fields)
        _check_presets(found[name], tuple(presets))
        check_numbers(found[name], numbers)
    _check_all_shown(found.values(), numbers.values())
    return found


def _table(name: str, fields: Mapping[str, Any]) -> PublishedTable:
    try:
        return PublishedTable.model_validate({**fields, "name": name})
    except ValidationError as error:
        raise BadInput(f"{name}: {error}") from error


def _check_presets(table: PublishedTable, known: tuple[str, ...]) -> None:
    for name in table.presets:
        if name not in known:
            raise BadInput(f"{table.name}: unknown preset {name!r}{closest(name, known)}")


def _check_all_shown(tables: Iterable[PublishedTable], numbers: Iterable[Number]) -> None:
    shown = {(table.paper, table.id) for table in tables}
    for number in numbers:
        if (number.paper, number.table) not in shown:
            raise BadInput(
                f"no table shows {', '.join(number.key)}; lay out {number.table} of {number.paper}"
            )
