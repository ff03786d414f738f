"""Which figures there are, before any is drawn: what each is called, and which steps it needs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib.figure import Figure

from ....rows import Row
from ..line_names import sortable

Traces = Mapping[str, Sequence[Row]]
"""Key of a search -> its steps, in order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """A figure that can be drawn.

    Attributes:
        place: what its file is named by.
        draw: draws it, from the steps of the searches it asks for; None if they hold nothing to draw.
        searches: keys of searches whose steps it needs.
        columns: of these steps.
        turn: where not all figures of a kind are drawn, those of lower turns are.
    """

    place: tuple[object, ...]
    draw: Callable[[Traces], Figure | None]
    searches: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    turn: tuple[int, ...] = (0,)


def file_names(places: Iterable[Sequence[object]]) -> list[str]:
    """Give each place a name of its own; where two differ in odd signs only, or not at all, a number."""
    names: list[str] = []
    seen: set[str] = set()
    numbers: Counter[str] = Counter()
    for place in places:
        name = stem = "-".join(re.sub(r"[^\w.]+", "_", str(part)) for part in place if part != "")
        while name in seen:
            numbers[stem] += 1
            name = f"{stem}-{numbers[stem] + 1}"
        seen.add(name)
        names.append(name)
    return names


def first_in_turn(drawings: Sequence[Drawing], most: int) -> list[Drawing]:
    """Return at most so many drawings, the first of every turn before the second of any, in their order."""
    order = sorted(range(len(drawings)), key=lambda number: (drawings[number].turn, number))
    return [drawings[number] for number in sorted(order[:most])]


def ranks(values: Iterable[object]) -> dict[object, int]:
    """Return the place of each value among the distinct ones, one-shot and small numbers first."""
    return {value: rank for rank, value in enumerate(sorted(set(values), key=sortable))}


def pieces(items: Sequence[object], size: int) -> list[slice]:
    """Return slices that cover a sequence, of at most ``size`` each and about as long."""
    count = max(1, -(-len(items) // size))
    bounds = [len(items) * number // count for number in range(count + 1)]
    return [slice(low, high) for low, high in pairwise(bounds)]
