"""The lines of a table of searches: which rows are behind each, and what they are on average."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ...errors import BadInput
from ...rows import Row
from ..averages import MEASURES, Averages, Groups, Rows, chosen, grouped_by, pooled
from .line_names import CONTEXT, line_order, method_name
from .table_choice import STATISTICS, TableChoice
from .table_columns import measure_columns

IDENTITY = (
    *(*CONTEXT, "seed", "method", "granularity", "search", "uses_oracle"),
    *("settings", "scenario", "setup"),
)
DESCRIBED = ("discovered", "target", "width", "image_size", "recipe", "attack_settings", "held_back", "gate")
ERRORS = ("error_class", "error_message")


@dataclass(frozen=True, kw_only=True)
class Lines:
    """Lines of a table, and the rows behind each.

    Args:
        rows: what the lines were made of.
        groups: which row is behind which line, by the line's ``group``.
        lines: field -> value, in order; `Spread` where a line averages.
    """

    rows: Rows
    groups: Groups
    lines: tuple[Row, ...]

    def behind(self, number: int) -> np.ndarray:
        """Return the positions of the rows behind a line, from 0."""
        return self.groups.members(int(self.lines[number]["group"]))


def arranged(searches: pa.Table, choice: TableChoice) -> Lines:
    """Group rows into lines, and average them where the choice says so; raises as `searches_table` does."""
    if choice.statistic not in STATISTICS:
        raise BadInput(f"there is no statistic {choice.statistic!r}; choose one of {', '.join(STATISTICS)}")
    measure_columns(choice.columns)
    rows = _chosen_rows(Rows(searches), choice.where)
    if not choice.aggregate:
        own = Groups(codes=np.arange(len(rows)), first=np.arange(len(rows)))
        return Lines(rows=rows, groups=own, lines=_single(rows))
    groups = grouped_by(rows, choice.by, choice.pool) if choice.by else pooled(rows, choice.pool)
    return Lines(rows=rows, groups=groups, lines=_averaged(rows, groups, choice))


def _chosen_rows(rows: Rows, where: str) -> Rows:
    if not where.strip() or not len(rows):
        return rows
    found = rows.take(chosen(rows, where))
    if not len(found):
        raise BadInput(f"no row is chosen by {where!r}; leave --filter out to see what there is")
    return found


def _single(rows: Rows) -> tuple[Row, ...]:
    columns = ("key", *IDENTITY, *DESCRIBED, *MEASURES, "s", "status", *ERRORS, "objective", "parameters")
    seconds, order = rows.numbers("seconds"), line_order(rows, np.arange(len(rows)))
    found = zip(order.tolist(), rows.lines(columns, order), strict=True)
    return tuple(
        {**_named(line), "group": k, "seconds": None if np.isnan(seconds[k]) else float(seconds[k])}
        for k, line in found
    )


def _named(line: Row) -> Row:
    whole = {**dict.fromkeys(IDENTITY), **line, "uses_oracle": bool(line.get("uses_oracle"))}
    return {**whole, "method_name": method_name(whole)}


def _averaged(rows: Rows, groups: Groups, choice: TableChoice) -> tuple[Row, ...]:
    averages = Averages(rows, groups)
    blocks = rows.victims() if choice.statistic == "interval" else None
    spreads = {name: averages.of(name, blocks=blocks) for name in MEASURES}
    counts = zip(averages.n.tolist(), averages.counts.tolist(), averages.statuses(), strict=True)
    counted = [_counted(*one) for one in counts]
    order = line_order(rows, groups.first, choice.pool)
    heads = _heads(rows, groups, order, choice)
    measures = [dict(zip(spreads, values, strict=True)) for values in zip(*spreads.values(), strict=True)]
    return tuple(
        {**head, **counted[k], **measures[k], "group": k}
        for k, head in zip(order.tolist(), heads, strict=True)
    )


def _counted(n: int, count: int, statuses: Mapping[str, int]) -> Row:
    """Say how many rows a line has, and what became of them."""
    several = ", ".join(f"{status} {number}" for status, number in statuses.items())
    status = several if len(statuses) > 1 else next(iter(statuses))
    return {"n": n, "rows": count, "n_note": f"{n}" if n == count else f"{n} of {count}", "status": status}


def _heads(rows: Rows, groups: Groups, order: np.ndarray, choice: TableChoice) -> list[Row]:
    """Return what all rows of a line have in common; None for what is pooled."""
    heads = rows.lines((*IDENTITY, *DESCRIBED), groups.first[order])
    for name in (*IDENTITY, *DESCRIBED):
        if name in rows.names and _is_pooled(rows, groups, name, choice):
            for head in heads:
                head[name] = None
    return [_named(head) for head in heads]


def _is_pooled(rows: Rows, groups: Groups, name: str, choice: TableChoice) -> bool:
    """Tell whether a field has several values that lines average over, or would if they had more rows."""
    coded = rows.coded(name)
    if name in choice.pool:
        return len(coded.values) > 1
    return bool((coded.codes != coded.codes[groups.first][groups.codes]).any())
