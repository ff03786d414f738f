"""The rows that are exported: of all folders, the newest of each key, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from ...errors import BadInput
from ..store import ResultsStore, newest_batches

Describe = Callable[[pa.Table], pa.Table]


def opened(results: Sequence[Path]) -> list[ResultsStore]:
    """Open results folders.

    Raises:
        BadInput: there is no such folder.
    """
    return [ResultsStore(folder, create=False) for folder in results]


def batches(stores: Sequence[ResultsStore], table: str) -> Iterator[pa.Table]:
    """Yield the newest rows of a table; rows of earlier versions are described by the sweeps beside them.

    Raises as `newest_batches` does.
    """
    if table != "searches":
        return newest_batches(stores, table)
    known: dict[Path, Describe] = {}

    def described(store: ResultsStore, rows: pa.Table) -> pa.Table:
        if not rows["setup"].null_count:
            return rows
        if store.directory not in known:
            from ..sweep import describer  # imports all that sweeps need, and new rows need none of it

            known[store.directory] = describer(store)
        return known[store.directory](rows)

    return newest_batches(stores, table, described)


def none_finished(results: Sequence[Path]) -> BadInput:
    """Return what to tell a user whose folders hold no search."""
    names = ", ".join(map(str, results))
    return BadInput(f"{names} holds no finished searches yet; run `theriac sweep` or wait for one")
