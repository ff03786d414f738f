"""The fields of rows of ``searches`` by name, also those that stand in their JSON columns."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import BadInput, closest

JSON_COLUMNS = ("settings", "recipe", "attack_settings", "held_back", "gate")
"""Columns that hold JSON, whose fields have names such as ``recipe.iterations``."""
FAILED = ("failed", "gate_failed")
"""Statuses of rows that no average counts."""
PHASES = ("seconds_importance", "seconds_search")


@dataclass(frozen=True)
class Coded:
    """A column by its distinct values.

    Attributes:
        codes: int64 [N]: position in ``values``.
        values: the distinct values; None is a missing one.
    """

    codes: np.ndarray
    values: Sequence[Any]

    def where(self, test: Any) -> np.ndarray:
        """Return bool [N]: whether ``test`` holds for the value of a row."""
        held = np.fromiter((bool(test(value)) for value in self.values), bool, len(self.values))
        return np.asarray(held[self.codes]) if len(self.values) else np.zeros(len(self.codes), bool)


class Rows:
    """Rows of ``searches``, and what they say about themselves.

    Args:
        searches: as `ResultsStore.read` gives them; columns may be left out.

    Example:
        >>> import pyarrow as pa
        >>> rows = Rows(pa.table({"method": ["xlf"], "settings": ['{"s_step": 1.1}']}))
        >>> rows.coded("s_step").values, rows.coded("settings.s_step").codes.tolist()
        ([1.1], [0])
    """

    def __init__(self, searches: pa.Table) -> None:
        self.table = searches
        self._coded: dict[str, Coded] = {}

    def __len__(self) -> int:
        return len(self.table)

    def take(self, where: np.ndarray) -> Rows:
        """Return the rows for which ``where``, bool [N], is true."""
        return Rows(self.table.filter(pa.array(where, pa.bool_())))

    def take_places(self, places: np.ndarray) -> Rows:
        """Return the rows at some positions, in their order."""
        return Rows(self.table.take(pa.array(places, pa.int64())))

    @cached_property
    def names(self) -> dict[str, tuple[str, str]]:
        """Return name -> (column, field in its JSON or ""), short names included where they are clear."""
        full = {name: (name, "") for name in ("seconds", "setting", *self.table.schema.names)}
        for column in JSON_COLUMNS:
            full |= {f"{column}.{field}": (column, field) for field in self._fields(column)}
        short: dict[str, list[tuple[str, str]]] = {}
        for column, field in full.values():
            short.setdefault(field, []).append((column, field))
        clear = {name: places[0] for name, places in short.items() if len(places) == 1 and name}
        return {**clear, **full}

    def coded(self, name: str) -> Coded:
        """Return a field by its distinct values.

        Raises:
            BadInput: no row has such a field.
        """
        if name not in self.names:
            known = sorted(name for name, (column, _) in self.names.items() if column not in HIDDEN)
            raise BadInput(
                f"there is no field {name!r} in these rows; choose one of {', '.join(known)}"
                f"{closest(name, known)}"
            )
        if name not in self._coded:
            self._coded[name] = self._code(*self.names[name])
        return self._coded[name]

    def numbers(self, name: str) -> np.ndarray:
        """Return a field as float64 [N], NaN where it is missing or no number."""
        column, field = self.names.get(name, (name, ""))
        if not field and column in self.table.schema.names and _is_number(self.table.schema.field(column)):
            found: np.ndarray = self.table[column].cast(pa.float64(), safe=False).to_numpy()
            return found
        if column == "seconds":
            return self._seconds
        coded = self.coded(name)
        return np.asarray(np.array([as_number(value) for value in coded.values], float)[coded.codes])

    def victims(self) -> np.ndarray:
        """Number the victims, int64 [N]: rows of one setup and seed have one number."""
        setup, seed = self.coded("setting"), self.coded("seed")
        return np.asarray(setup.codes * max(1, len(seed.values)) + seed.codes)

    def scored(self) -> np.ndarray:
        """Tell which rows, bool [N], averages count: all but failed ones."""
        return self.coded("status").where(lambda value: value not in FAILED)

    def lines(self, columns: Sequence[str], positions: np.ndarray) -> list[dict[str, Any]]:
        """Return these columns of some rows, in the order of ``positions``."""
        there = [name for name in columns if name in self.table.schema.names]
        values = [self._values(name, positions) for name in there]
        return [dict(zip(there, line, strict=True)) for line in zip(*values, strict=True)]

    def _values(self, column: str, positions: np.ndarray) -> Iterable[Any]:
        """Return a column's values at some positions."""
        if pa.types.is_dictionary(self.table.schema.field(column).type):
            coded = self.coded(column)
            return [coded.values[code] for code in coded.codes[positions].tolist()]
        found: list[Any] = self.table[column].take(pa.array(positions, pa.int64())).to_pylist()
        return found

    @cached_property
    def _seconds(self) -> np.ndarray:
        phases = np.array([self.numbers(name) for name in PHASES if name in self.table.schema.names])
        if not len(phases):
            return np.full(len(self), np.nan)
        known = np.where(np.isnan(phases), 0.0, phases).sum(axis=0)
        return np.where(np.isnan(phases).all(axis=0), np.nan, known)

    def _fields(self, column: str) -> Iterator[str]:
        trees = self._trees(column)
        yield from dict.fromkeys(name for tree in trees.values() for name in tree)

    def _trees(self, column: str) -> dict[Any, dict[str, Any]]:
        """Return text -> fields, of the distinct texts of a JSON column."""
        if column not in self.table.schema.names:
            return {}
        return {text: leaves_of(text) for text in _encoded(self.table[column]).values}

    def _code(self, column: str, field: str) -> Coded:
        if column == "setting":
            return self._code_setup()
        if column == "seconds":
            return recoded(np.arange(len(self)), self._seconds.tolist())
        whole = _encoded(self.table[column])
        if not field:
            return whole
        trees = self._trees(column)
        return recoded(whole.codes, [trees[text].get(field) for text in whole.values])

    def _code_setup(self) -> Coded:
        """Code the setup; a row without one has its scenario, which no other seed shares."""
        bare = pa.nulls(len(self), pa.string())
        setup, scenario = (
            self.table[name] if name in self.table.schema.names else pa.chunked_array([bare])
            for name in ("setup", "scenario")
        )
        return _encoded(pc.coalesce(setup, scenario))


HIDDEN = frozenset({"key", "run", "lfr", "flat", "asr_by_trigger", "written_at", "schema_version", "setting"})
"""Columns that messages do not offer."""


def recoded(codes: np.ndarray, values: Sequence[Any]) -> Coded:
    """Return ``values[codes]`` by its distinct values."""
    known: dict[Hashable, int] = {}
    places = [known.setdefault(_hashable(value), len(known)) for value in values]
    found = np.array(places, np.int64)[codes] if len(values) else np.asarray(codes, np.int64)
    return Coded(codes=found, values=list(known))


def leaves_of(text: str | None) -> dict[str, Any]:
    """Return dotted name -> value of all that a JSON object holds; nothing for what is none."""
    try:
        tree = json.loads(text) if text else {}
    except ValueError:
        return {}
    return dict(_leaves(tree, "")) if isinstance(tree, Mapping) else {}


def _leaves(tree: Mapping[str, Any], before: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _hashable(value)


def _hashable(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def as_number(value: Any) -> float:
    """Return a value as a number, also where it is a text such as "0.2"; NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def _is_number(field: pa.Field) -> bool:
    return bool(pa.types.is_integer(field.type) or pa.types.is_floating(field.type))


def _encoded(column: pa.ChunkedArray) -> Coded:
    if pa.types.is_nested(column.type):
        return recoded(np.arange(len(column)), column.to_pylist())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    whole = column.unify_dictionaries().combine_chunks()
    whole = whole if isinstance(whole, pa.Array) else pa.concat_arrays(whole.chunks)
    missing = len(whole.dictionary)
    codes = whole.indices.fill_null(missing).to_numpy().astype(np.int64)
    held = np.flatnonzero(np.bincount(codes, minlength=missing + 1))  # of a part, some values have no row
    places = np.zeros(missing + 1, np.int64)
    places[held] = np.arange(len(held))
    values = whole.dictionary.take(pa.array(held[held < missing])).to_pylist()
    return Coded(codes=places[codes], values=[*values, None] if missing in held else values)
