"""The searches of results folders, as tables and figures take them."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import BadInput
from ..store import SCHEMAS, ResultsStore

log = logging.getLogger(__name__)

IDENTITY = ("dataset", "model", "attack", "share", "method", "manipulated")
"""What every row of a sweep has."""
MEASURED = ("clean_accuracy", "asr", "healed_raw")
BOUNDS = {
    **dict.fromkeys((*MEASURED, *(f"{name}_before" for name in MEASURED)), (0.0, 1.0)),
    **dict.fromkeys(("forget_accuracy", "forget_accuracy_before"), (0.0, 1.0)),
    **dict.fromkeys(("damage",), (-100.0, 100.0)),
    **dict.fromkeys(("healed",), (0.0, sys.float_info.max)),
    **dict.fromkeys((f"seconds_{one}" for one in ("importance", "search", "evaluation")), (0.0, 1e12)),
    **dict.fromkeys(("seconds_victim",), (0.0, 1e12)),
    **dict.fromkeys(("manipulated", "discovered", "steps", "dampened", "peak_memory"), (0, 2**62)),
}
"""Column -> least and greatest value that it can have; NaN is possible, where nothing was counted."""


def finished_searches(*folders: Path) -> pa.Table:
    """Read the searches of results folders, the newest row of each key.

    Rows of earlier versions are described by the sweeps of their folder. Rows whose values are impossible are
    left out, and named in a warning.

    Raises:
        BadInput: there is no such folder, or no search in any.
    """
    found = pa.concat_tables([_described(folder) for folder in folders])
    sensible = _sensible(_newest(found) if len(folders) > 1 else found)
    if not sensible.num_rows:
        names = ", ".join(map(str, folders))
        raise BadInput(f"{names} holds no finished searches yet; run `theriac sweep` or wait for one")
    return sensible


def _described(folder: Path) -> pa.Table:
    results = ResultsStore(folder, create=False)
    rows = results.read("searches", coded=True)
    if not rows["setup"].null_count:
        return rows
    from ..sweep import describer  # imports all that sweeps need, and new rows need none of it

    return describer(results)(rows.cast(SCHEMAS["searches"])).cast(rows.schema)


def _newest(rows: pa.Table) -> pa.Table:
    """Keep the newest row of each key, of rows from several folders."""
    order = pc.sort_indices(rows, [("key", "ascending"), ("written_at", "descending")])
    rows = rows.take(order)
    keys = rows["key"].combine_chunks()
    first = np.ones(len(rows), bool)
    if len(rows) > 1:
        first[1:] = pc.not_equal(keys[1:], keys[:-1]).to_numpy(zero_copy_only=False)
    return rows.filter(pa.array(first))


def _sensible(searches: pa.Table) -> pa.Table:
    """Leave out rows that no sweep writes, and name the first: they would spoil what all others show."""
    faults = [*_out_of_bounds(searches), *_nameless(searches)]
    bad = np.logical_or.reduce([held for _, held in faults], initial=False) if faults else np.zeros(0, bool)
    if not np.any(bad):
        return searches
    first = int(np.flatnonzero(bad)[0])
    fault = next(words for words, held in faults if held[first])
    words = fault.format(*(searches[name][first].as_py() for name in fault.split()[:1]))
    log.warning(
        "left out %d rows of results that no sweep writes, such as %r: %s",
        int(bad.sum()),
        searches["key"][first].as_py(),
        words,
    )
    return searches.filter(pa.array(~bad))


def _out_of_bounds(searches: pa.Table) -> list[tuple[str, np.ndarray]]:
    """Return (what is wrong, bool [N]) for columns that hold what they cannot."""
    found = []
    for name, (least, most) in BOUNDS.items():
        values = searches[name].cast(pa.float64(), safe=False).to_numpy()
        wrong = ~np.isnan(values) & ~((values >= least) & (values <= most))
        if wrong.any():
            found.append((f"{name} = {{}}, not in {least:g} to {most:g}", wrong))
    return found


def _nameless(searches: pa.Table) -> list[tuple[str, np.ndarray]]:
    """Return the rows that lack what others have."""
    missing = {name: pc.is_null(searches[name]).to_numpy() for name in IDENTITY}
    if not (~np.logical_or.reduce(list(missing.values()))).any():
        return []
    return [(f"{name} is missing", held) for name, held in missing.items() if held.any()]
