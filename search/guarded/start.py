"""A guarded search before its first step, as another process follows it; needs no torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...rows import Row
from .machine import GuardedSearch, GuardedState, Probes


class GuardedStart(BaseModel):
    """A guarded search before its first step; each step depends on all before it.

    Attributes:
        search: settings.
        probes: sizes of what its steps are measured on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sort: Literal["guarded"] = "guarded"
    search: GuardedSearch
    probes: Probes

    def after(self, rows: Sequence[Row]) -> GuardedState:
        """Return the state after the measured steps ``rows``."""
        measures = ((row["healed"], row["flips_target"], row["flips_other"], row["harm"]) for row in rows)
        return self.search.replay(self.probes, measures)

    def place(self, rows: Sequence[Row], skip: int = 0) -> Hashable | None:
        """Return where the search stands, see `Start.place`; None also for any step but the next."""
        state = self.after(rows)
        return None if skip or state.phase == "over" else len(state.trace)

    def needed(self, rows: Sequence[Row]) -> int:
        """Return how many rows the search takes; see `Start.needed`."""
        return len(self.after(rows).trace)
