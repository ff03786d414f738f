"""The methods that are better than all others of their context, beyond chance."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...rows import Row
from ..averages import better_everywhere
from .line_names import CONTEXT
from .lines import Lines
from .table_columns import MEASURE_COLUMNS

UNTOUCHED = "none"
"""The victim as it is: it loses nothing and heals nothing, so it does not compete."""
PLACE = (*CONTEXT, "setup", "seed", "gate")


def mark_best(found: Lines, measures: Sequence[str]) -> tuple[Row, ...]:
    """Add to every line which of its measures are better than those of all other methods of its context.

    Lines that saw held-out truth do not compete. Blocks are victims: rows of one setup and seed.

    Args:
        found: the lines.
        measures: names of measures; those that nothing is better at are passed over.
    """
    lines = [{**line, "best": set()} for line in found.lines]
    places: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for number, line in enumerate(lines):
        if line["method"] != UNTOUCHED and not line["uses_oracle"]:
            places[tuple(line.get(name) for name in PLACE)].append(number)
    judged = {c.fields[-1]: c for c in MEASURE_COLUMNS.values() if c.judged}
    for measure in (name for name in measures if name in judged):
        blocks = _blocks(found, measure)
        for numbers in places.values():
            best = better_everywhere(
                [blocks[lines[number]["group"]] for number in numbers],
                higher=not judged[measure].lower_is_better,
            )
            if best is not None:
                lines[numbers[best]]["best"].add(measure)
    return tuple(lines)


def _blocks(found: Lines, measure: str) -> list[dict[int, float]]:
    """Return victim -> mean of its rows, of each group."""
    values, victims = found.rows.numbers(measure), found.rows.victims()
    sums: list[dict[int, list[float]]] = [defaultdict(list) for _ in range(len(found.groups))]
    for place in np.flatnonzero(~np.isnan(values) & found.rows.scored()):
        sums[int(found.groups.codes[place])][int(victims[place])].append(float(values[place]))
    return [{victim: float(np.mean(own)) for victim, own in group.items()} for group in sums]
