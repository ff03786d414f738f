"""What the lines of tables and figures are called, and their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...rows import Row
from ...unlearning.kinds import GRANULARITIES
from ..averages import Coded, Rows
from ..methods import METHOD_ENTRIES
from ..searches import SEARCH_ENTRIES

CONTEXT = ("dataset", "model", "attack", "manipulated", "share")
"""What one experiment differs from another in, besides the seed."""


def method_name(row: Row) -> str | None:
    """Return the display name of a row's method, such as "PTN-XLF"; an asterisk marks held-out truth."""
    if row["method"] is None:
        return None
    entry = METHOD_ENTRIES.get(str(row["method"]))
    name = entry.title if entry else str(row["method"]).upper()
    search = SEARCH_ENTRIES.get(str(row["search"])) if entry is None or entry.searched else None
    return (f"{search.title}-{name}" if search else name) + ("*" if row["uses_oracle"] else "")


def describe(context: Row) -> str:
    """Say what a table or figure is about: "digits, resnet9, badnets, |S_m| = 100, share 0.2, seed 0"."""
    plain = [str(context[name]) for name in ("dataset", "model", "attack") if context.get(name) is not None]
    titles = {"manipulated": "|S_m| = {}", "share": "share {}", "seed": "seed {}"}
    named = [title.format(context[name]) for name, title in titles.items() if context.get(name) is not None]
    return ", ".join(plain + named).replace("share one_shot", "one-shot")


ORDER: Mapping[str, Callable[[object], object]] = {
    **dict.fromkeys((*CONTEXT, "seed", "scenario"), lambda value: sortable(value)),
    "method": lambda value: (_position(value, tuple(METHOD_ENTRIES)), sortable(value)),
    "search": lambda value: sortable(value),
    "granularity": lambda value: _position(value, (None, *GRANULARITIES)),
    "uses_oracle": bool,
}
"""Field -> what its values are sorted by, the field that counts most first."""


def line_order(rows: Rows, places: np.ndarray, pool: Sequence[str] = ()) -> np.ndarray:
    """Return the order of lines: by context (one-shot first, as in the papers), method and granularity.

    Args:
        rows: of ``searches``.
        places: position of a row of each line.
        pool: fields that lines average over, which order nothing.
    """
    names = [name for name in ORDER if name in rows.names and name not in pool]
    ranks = [_ranks(rows.coded(name), ORDER[name])[places] for name in reversed(names)]
    return np.lexsort(ranks) if ranks else np.arange(len(places))


def _ranks(coded: Coded, key: Callable[[Any], Any]) -> np.ndarray:
    """Return the place of each row's value among the distinct values."""
    ranks = np.zeros(max(1, len(coded.values)), np.int64)
    ranks[sorted(range(len(coded.values)), key=lambda k: key(coded.values[k]))] = np.arange(len(coded.values))
    return np.asarray(ranks[coded.codes])


def sortable(value: object) -> tuple[int, float, str]:
    """Order missing values first, then "one_shot", numbers (also as text, such as "0.2"), and texts."""
    if value is None:
        return (0, 0.0, "")
    if value == "one_shot":
        return (1, 0.0, "")
    try:
        return (2, float(str(value)), "")
    except ValueError:
        return (3, 0.0, str(value))


def _position(value: object, order: Sequence[object]) -> int:
    return order.index(value) if value in order else len(order)
