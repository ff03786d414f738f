"""What is missing: cells of sweeps without a row, grouped by what they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from ...sweep import Task
from ..line_names import method_name, sortable
from .grids import Grid, Head, plain_grid
from .results_read import ReadResults

MOST_GROUPS = 200
HEADS = (
    Head(title="sweep", right=False),
    Head(title="cells"),
    *(Head(title=name, right=False) for name in ("dataset", "model", "attack")),
    Head(title="|S_m|"),
    *(Head(title=name, right=False) for name in ("method", "granularity", "shares", "seeds")),
)


def missing_grid(results: ReadResults) -> Grid:
    """Arrange the missing cells of all sweeps, as `theriac status` counts them."""
    groups: dict[tuple[Any, ...], list[Task]] = defaultdict(list)
    for standing in results.standings:
        for task in standing.missing:
            groups[standing.status.name, *_kind(task)].append(task)
    rows = [_line(*pair) for pair in list(groups.items())[:MOST_GROUPS]]
    left = sum(map(len, list(groups.values())[MOST_GROUPS:]))
    notes = [f"and {left:,} more cells; theriac sweep computes them"] if left else []
    return plain_grid(HEADS, rows, notes=notes)


def _kind(task: Task) -> tuple[Any, ...]:
    scenario, cell = task.scenario, task.cell
    name = method_name({"method": cell.method, "search": cell.search, "uses_oracle": False})
    granularity = cell.dampening.granularity if cell.dampening else None
    place = (scenario.dataset, scenario.model.name, scenario.attack.name, scenario.manipulated)
    return (*place, name, granularity)


def _line(kind: tuple[Any, ...], tasks: list[Task]) -> list[object]:
    sweep, *what = kind
    shares = _several(task.cell.share_name for task in tasks)
    return [sweep, len(tasks), *what, shares, _several(task.scenario.seed for task in tasks)]


def _several(values: Iterable[Any]) -> str:
    found = sorted(set(values), key=sortable)
    return ", ".join(map(str, found[:12])) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
