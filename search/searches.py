"""All searches over how hard to dampen, by name.

A new one is a package like `theriac.search.ptn`, an entry here and its `Start` below; its settings are a base
of `HealSettings`. Whoever asks "which search is it" asks its entry.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from .entry import SearchEntry
from .grid import GRID, TPE, GridStart, TPEStart
from .guarded import GUARDED, GuardedStart
from .ptn import PTN, PTNStart

SEARCH_ENTRIES: dict[str, SearchEntry[Any]] = {entry.name: entry for entry in (PTN, GRID, TPE, GUARDED)}


def with_curve(curve: str) -> tuple[str, ...]:
    """Name the searches whose steps this figure shows."""
    return tuple(name for name, entry in SEARCH_ENTRIES.items() if entry.curve == curve)


AnyStart = Annotated[PTNStart | GridStart | TPEStart | GuardedStart, Field(discriminator="sort")]
"""A `Start` as a field of a model."""
