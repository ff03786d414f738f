"""Groups of rows that differ in nothing but what may be pooled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...errors import BadInput
from .fields import JSON_COLUMNS, Coded, Rows, leaves_of, recoded

SCENARIO = (
    "dataset",
    "model",
    "width",
    "image_size",
    "attack",
    "target",
    "attack_settings",
    "manipulated",
    "recipe",
    "held_back",
)
"""What a setup consists of."""
CELL = ("gate", "share", "method", "search", "granularity", "settings", "uses_oracle")
"""What rows of one setup differ in, beside the seed."""
WITH = {
    "attack": ("target", "attack_settings"),
    "target": ("attack_settings.target",),
    "attack_settings": ("attack", "target"),
}
"""What is pooled together with a field, because it says the same."""
SEEDS = ("seed",)


@dataclass(frozen=True)
class Groups:
    """Which row belongs to which group.

    Attributes:
        codes: int64 [N]: number of the group, from 0 in order of its first row.
        first: int64 [G]: position of each group's first row.
    """

    codes: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.first)

    @cached_property
    def _order(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows in order of their groups, and where each group begins."""
        counts = np.bincount(self.codes, minlength=len(self))
        return np.argsort(self.codes, kind="stable"), np.concatenate([[0], np.cumsum(counts)])

    def members(self, number: int) -> np.ndarray:
        """Return the positions of a group's rows, ascending."""
        order, starts = self._order
        return np.asarray(order[starts[number] : starts[number + 1]])


def pooled(rows: Rows, pool: Sequence[str] = SEEDS) -> Groups:
    """Group rows that differ only in what is pooled.

    Anything else that rows say about themselves parts them: the setup (or each of its fields, where one of
    them is pooled), gate, share, method, search, granularity, all settings, and whether held-out truth was
    seen. A row that does not say its setup is alone with its scenario.

    Args:
        rows: to group.
        pool: names of fields, such as ``seed``, ``share`` or ``recipe.iterations``; with ``scenario``, rows
            that do not say their setup are parted by what they do say.

    Raises:
        BadInput: no row has a field of this name.
    """
    return _joined(rows, _identity(rows, pool))


def grouped_by(rows: Rows, fields: Sequence[str], pool: Sequence[str] = SEEDS) -> Groups:
    """Group rows by ``fields`` alone, which must tell apart all that is not pooled.

    Raises:
        BadInput: rows of one group differ in anything else, which is named.
    """
    groups = _joined(rows, [rows.coded(name) for name in fields])
    finer = pooled(rows, pool)
    if len(finer) > len(groups):
        raise _differ(rows, groups, pool)
    return groups


def _identity(rows: Rows, pool: Sequence[str]) -> list[Coded]:
    """Return the columns that part rows, without what is pooled."""
    gone = {rows_name for name in pool for rows_name in _pooled_names(rows, name)}
    apart = bool(gone & {*SCENARIO, "setup", "scenario"}) or any("." in name for name in gone)
    columns = [*SCENARIO, *CELL] if apart else ["setting", *CELL]
    there = [name for name in columns if name not in gone and name in rows.names]
    return [_without(rows, name, gone) for name in there]


def _pooled_names(rows: Rows, name: str) -> Iterable[str]:
    if name not in rows.names:
        rows.coded(name)  # which says what there is
    column, field = rows.names[name]
    full = f"{column}.{field}" if field else column
    yield from (full, *WITH.get(full, ()))


def _without(rows: Rows, column: str, gone: set[str]) -> Coded:
    """Return a column; of one with JSON, without the fields that are pooled."""
    coded = rows.coded(column)
    inside = {name.removeprefix(f"{column}.") for name in gone if name.startswith(f"{column}.")}
    if column not in JSON_COLUMNS or not inside:
        return coded
    trees = [leaves_of(text) for text in coded.values]
    kept = [str(sorted((k, str(v)) for k, v in tree.items() if k not in inside)) for tree in trees]
    return recoded(coded.codes, kept)


def _joined(rows: Rows, columns: Sequence[Coded]) -> Groups:
    codes, size = np.zeros(len(rows), np.int64), 1
    for column in columns:
        if size * max(1, len(column.values)) >= 2**62:
            codes, size = _dense(codes)
        codes, size = codes * max(1, len(column.values)) + column.codes, size * max(1, len(column.values))
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return Groups(codes=rank[inverse.reshape(-1)], first=first[order])


def _dense(codes: np.ndarray) -> tuple[np.ndarray, int]:
    values, inverse = np.unique(codes, return_inverse=True)
    return inverse.reshape(-1).astype(np.int64), len(values)


def _differ(rows: Rows, groups: Groups, pool: Sequence[str]) -> BadInput:
    """Say in what rows of one line differ that should not."""
    gone = {rows_name for name in pool for rows_name in _pooled_names(rows, name)}
    for name in _leaf_names(rows):
        column = name.split(".")[0]
        if name in gone or column in gone:
            continue
        coded = rows.coded(name)
        parted = _joined(rows, [Coded(groups.codes, range(len(groups))), coded])
        if len(parted) > len(groups):
            values = ", ".join(sorted({str(value) for value in coded.values}))[:120]
            return BadInput(
                f"rows of one line differ in {name} ({values}); add it to --group-by, say that it is pooled "
                f"(--pool), or choose rows (--filter)"
            )
    return BadInput(
        "rows of one line differ in their setup, which older rows do not spell out; add setup to --group-by, "
        "or pool it (--pool)"
    )


def _leaf_names(rows: Rows) -> list[str]:
    """Return the names of all that rows say about themselves, JSON taken apart."""
    whole = [name for name in (*SCENARIO, *CELL) if name not in JSON_COLUMNS and name in rows.names]
    return whole + [name for name in rows.names if name.split(".")[0] in JSON_COLUMNS and "." in name]
