"""The failures: rows grouped by their reason, most frequent first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from ....rows import Row
from ...store import masked
from ..status import FAILED
from .grids import Grid, Head, plain_grid
from .results_read import ReadResults

MOST_REASONS = 100
LONGEST = 600
COLUMNS = ("key", "status", "error_class", "error_message", "dataset", "method")
HEADS = (
    Head(title="rows"),
    *(Head(title=name, right=False) for name in ("status", "error", "reason")),
    *(Head(title=name, right=False) for name in ("datasets", "methods", "one of them")),
)


def failure_grid(results: ReadResults) -> Grid:
    """Arrange failed rows by status and reason, each with its count and the key of one row."""
    places = np.flatnonzero(results.rows.coded("status").where(lambda value: value in FAILED))
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in results.rows.lines(COLUMNS, places):
        groups[row["status"], row["error_class"], _one_line(row["error_message"])].append(row)
    ordered = sorted(groups.items(), key=lambda pair: -len(pair[1]))
    rows = [_line(*pair) for pair in ordered[:MOST_REASONS]]
    left = len(ordered) - len(rows)
    more = results.command("table", "--filter", "status in (failed, gate_failed)")
    notes = [f"and {left:,} more reasons: {more}"] if left > 0 else []
    return plain_grid(HEADS, rows, notes=notes)


def _one_line(message: str | None) -> str:
    text = masked(" ".join((message or "").split()))
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _line(reason: tuple[Any, ...], rows: list[Row]) -> list[object]:
    status, error, message = reason
    return [
        *(len(rows), status, error, message or "no message was recorded"),
        *(_several(row["dataset"] for row in rows), _several(row["method"] for row in rows), rows[0]["key"]),
    ]


def _several(values: Iterable[Any]) -> str:
    found = sorted({str(value) for value in values if value is not None})
    return ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "")
