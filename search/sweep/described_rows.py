"""Rows of earlier versions of theriac, which say too little about themselves, described after the fact."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from ...rows import Row
from ..store import DESCRIBING, SCHEMAS, ResultsStore
from .cell_rows import description
from .files import read_sweep

log = logging.getLogger(__name__)


def describer(results: ResultsStore) -> Callable[[pa.Table], pa.Table]:
    """Return what fills the columns of `DESCRIBING` in rows of ``searches`` that lack them.

    The sweeps in ``runs`` say what a scenario is. A row whose sweep is not there keeps its nulls.

    Args:
        results: whose runs are read, once, when the first row needs it.
    """
    known: dict[str, Row] = {}

    def describe(searches: pa.Table) -> pa.Table:
        bare = pc.and_(pc.is_null(searches["setup"]), pc.is_valid(searches["scenario"]))
        if not pc.any(bare).as_py():
            return searches
        if not known:
            known.update(_scenarios(results))
        return _filled(searches, bare, known)

    return describe


def _scenarios(results: ResultsStore) -> dict[str, Row]:
    """Return scenario key -> columns, of all sweeps that were run into the results."""
    texts = results.read("runs", columns=["configuration"])["configuration"].to_pylist()
    return {key: row for text in dict.fromkeys(filter(None, texts)) for key, row in _of_sweep(text)}


def _of_sweep(text: str) -> Iterable[tuple[str, Row]]:
    try:
        sweep = read_sweep(text, "a row of runs")
        return [(one.key, {**description(one), "sweep": sweep.name}) for one in sweep.scenarios()]
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        log.debug("a sweep in `runs` cannot be read: %s", error)
        return []


def _filled(searches: pa.Table, bare: pa.ChunkedArray, known: dict[str, Row]) -> pa.Table:
    rows = [known.get(key, {}) for key in searches["scenario"].to_pylist()]
    for name in DESCRIBING:
        field = SCHEMAS["searches"].field(name)
        values = pa.array([row.get(name) for row in rows], field.type)
        position = searches.schema.get_field_index(name)
        searches = searches.set_column(position, field, pc.if_else(bare, values, searches[name]))
    return searches
