"""A PTN search before its first step, as another process follows it; needs no torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from ...rows import Row
from .machine import PTNSearch, PTNState


class PTNStart(BaseModel):
    """A PTN search before its first step.

    Attributes:
        search: settings, rho as a number.
        forget_count: |S_f|.
        train_count: |S_tr|, found poison included.
        forget_accuracy: Acc_forget(victim).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sort: Literal["ptn"] = "ptn"
    search: PTNSearch
    forget_count: int
    train_count: int
    forget_accuracy: float

    def after(self, rows: Sequence[Row]) -> PTNState:
        """Return the state after the evaluated settings ``rows``."""
        state = self.search.start(
            forget_count=self.forget_count,
            train_count=self.train_count,
            victim_forget_accuracy=self.forget_accuracy,
        )
        return self.search.replay(state, (row["forget_accuracy"] for row in rows))

    def place(self, rows: Sequence[Row], skip: int = 0) -> Hashable | None:
        """Return where the search stands ``skip`` settings after ``rows``, if none changes its direction.

        Equal places go on equally. None: it is over by then.
        """
        state = self.search.ahead(self.after(rows), skip)
        if state.status != "searching":
            return None
        return (state.s, state.offset, state.walked_back, state.fine_until)

    def needed(self, rows: Sequence[Row]) -> int:
        """Return how many of ``rows`` the search takes: all up to its end."""
        return len(self.after(rows).trace)
