"""Where rows come from: versions, device and commit of the runs that computed them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from ....rows import Row
from ...store import masked
from ..status_lines import counted
from .grids import Grid, Head, plain_grid
from .results_read import ReadResults

MOST_RUNS = 50
MOST_KINDS = 50
PACKAGES = ("theriac", "torch", "python", "cuda")
KIND_HEADS = (
    *(Head(title="rows"), Head(title="runs")),
    *(Head(title=name, right=False) for name in ("theriac", "PyTorch", "Python", "CUDA")),
    *(Head(title=name, right=False) for name in ("device", "git commit")),
)
RUN_HEADS = (
    *(Head(title="started at", right=False), Head(title="rows")),
    *(Head(title=name, right=False) for name in ("command", "theriac", "PyTorch", "device", "run")),
)


def provenance_grids(results: ReadResults) -> list[Grid]:
    """Arrange how many rows each mix of versions, device and commit computed, and the newest runs."""
    counts = rows_by_run(results)
    runs = results.runs.to_pylist()
    return [_kinds(runs, counts), _newest(runs, counts)]


def rows_by_run(results: ReadResults) -> dict[str | None, int]:
    """Return key of a run -> how many rows name it."""
    coded = results.rows.coded("run")
    numbers = np.bincount(coded.codes, minlength=len(coded.values)).tolist()
    return dict(zip(coded.values, numbers, strict=True))


def torch_versions(results: ReadResults) -> list[str]:
    """Return the versions of PyTorch that rows were computed with, those of most rows first."""
    counts, found = rows_by_run(results), Counter[str]()
    for run in results.runs.to_pylist():
        version, rows = versions_of(run).get("torch"), counts.get(run["key"], 0)
        if version and rows:
            found[version] += rows
    return [f"{version} ({counted(rows, 'row')})" for version, rows in found.most_common()]


def versions_of(run: Row) -> dict[str, str]:
    """Return package -> version of a run; nothing where that cannot be read."""
    try:
        tree = json.loads(run["versions"] or "{}")
    except ValueError:
        return {}
    return {str(k): str(v) for k, v in tree.items() if v} if isinstance(tree, Mapping) else {}


def _kinds(runs: Sequence[Row], counts: Mapping[str | None, int]) -> Grid:
    kinds: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for run in runs:
        versions = versions_of(run)
        place = (*(versions.get(name) for name in PACKAGES), run["device"], _commit(run["git_commit"]))
        kinds[place].append(counts.get(run["key"], 0))
    rows = sorted(((sum(own), len(own), *place) for place, own in kinds.items()), key=lambda one: -one[0])
    known = {run["key"] for run in runs}
    lost = sum(number for key, number in counts.items() if key not in known)
    notes = [f"{counted(lost, 'row')} of no run that is recorded here"] if lost else []
    notes += [f"and {len(rows) - MOST_KINDS:,} more"] if len(rows) > MOST_KINDS else []
    return plain_grid(KIND_HEADS, rows[:MOST_KINDS], caption="Rows by versions and device", notes=notes)


def _newest(runs: Sequence[Row], counts: Mapping[str | None, int]) -> Grid:
    beginning = datetime.min.replace(tzinfo=UTC)
    ordered = sorted(runs, key=lambda run: run["started_at"] or beginning, reverse=True)
    rows = [_run(run, counts.get(run["key"], 0)) for run in ordered[:MOST_RUNS]]
    left = len(runs) - len(rows)
    notes = [f"and {left:,} earlier runs; the table `runs` has them"] if left else []
    return plain_grid(RUN_HEADS, rows, caption="Runs, newest first", notes=notes)


def _run(run: Row, rows: int) -> list[object]:
    versions, started = versions_of(run), run["started_at"]
    return [
        started and f"{started:%Y-%m-%d %H:%M:%S} UTC",
        rows,
        masked(run["command"] or "")[:1000],
        *(versions.get("theriac"), versions.get("torch"), run["device"], run["key"]),
    ]


def _commit(name: str | None) -> str | None:
    """Shorten a commit; that its files were changed stays."""
    if not name:
        return None
    commit, _, rest = name.partition("-")
    return commit[:12] + (f"-{rest}" if rest else "")
