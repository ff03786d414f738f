"""The searches of a results folder, and all figures of them."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...errors import BadInput
from ..store import ResultsStore
from .guarded_figures import guard_figures, healing_figures
from .sweep_figures import sweep_figures
from .trial_figures import trial_figures

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


def finished_searches(results: Path) -> pa.Table:
    """Read the searches of a folder.

    Raises:
        BadInput: there is no such folder, or no search in it.

    Rows whose values are impossible are left out, and named in a warning.
    """
    searches = ResultsStore(results, create=False).read("searches")
    sensible = _sensible(searches)
    if not sensible.num_rows:
        raise BadInput(f"{results} holds no finished searches yet; run `theriac sweep` or wait for one")
    return sensible


def _sensible(searches: pa.Table) -> pa.Table:
    """Leave out rows that no sweep writes, and name the first: they would spoil what all others show."""
    rows = searches.to_pylist()
    faults = [_fault(row) for row in rows]
    whole = any(all(row[name] is not None for name in IDENTITY) for row in rows)
    for number, row in enumerate(rows):
        missing = [name for name in IDENTITY if row[name] is None]
        if whole and missing and not faults[number]:
            faults[number] = f"{missing[0]} is missing"
    bad = [(row["key"], fault) for row, fault in zip(rows, faults, strict=True) if fault]
    if bad:
        key, fault = bad[0]
        log.warning("left out %d rows of results that no sweep writes, such as %r: %s", len(bad), key, fault)
    return searches.filter(pa.array([not fault for fault in faults], type=pa.bool_()))


def _fault(row: Mapping[str, Any]) -> str | None:
    """Tell what no row may say; None where all is possible."""
    for name, (least, most) in BOUNDS.items():
        value = row[name]
        if value is not None and not math.isnan(value) and not least <= value <= most:
            return f"{name} = {value}, not in {least:g} to {most:g}"
    return None


def result_figures(results: Path, directory: Path) -> tuple[Path, ...]:
    """Draw what the finished cells of a folder allow.

    See `sweep_figures`, `healing_figures`, `trial_figures` and `guard_figures`.

    Args:
        results: the folder of a `ResultsStore`.
        directory: where the figures go.

    Returns:
        Paths of the figures that were written.

    Raises:
        BadInput: no cell has been scored yet, or ``directory`` cannot be written.
    """
    searches, steps = finished_searches(results), ResultsStore(results, create=False).read("steps")
    return (
        *sweep_figures(searches, directory),
        *healing_figures(searches, directory),
        *trial_figures(steps, searches, directory),
        *guard_figures(steps, searches, directory),
    )
