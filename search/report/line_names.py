"""What the lines of tables and figures are called, and their order."""

from __future__ import annotations

from collections.abc import Sequence

from ...rows import Row
from ...unlearning.kinds import GRANULARITIES
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


def line_order(row: Row) -> tuple[object, ...]:
    """Return what lines are sorted by: context (one-shot first, as in the paper), method, granularity."""
    context = [sortable(row.get(name)) for name in (*CONTEXT, "seed", "scenario")]
    method = (
        _position(row.get("method"), tuple(METHOD_ENTRIES)),
        sortable(row.get("method")),
        sortable(row.get("search")),
    )
    granularity = _position(row.get("granularity"), (None, *GRANULARITIES))
    return (*context, *method, granularity, bool(row.get("uses_oracle")))


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
