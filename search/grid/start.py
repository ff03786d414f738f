"""Searches over settings that can be counted before the first, as another process follows them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ...rows import Row


class _Counted(BaseModel):
    """A search of so many settings.

    Attributes:
        count: how many there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=1)

    def needed(self, rows: Sequence[Row]) -> int:
        """Return how many of ``rows`` the search takes; see `Start.needed`."""
        return min(len(rows), self.count)


class GridStart(_Counted):
    """A grid before its first pair."""

    sort: Literal["grid"] = "grid"

    def place(self, rows: Sequence[Row], skip: int = 0) -> Hashable | None:
        """Return where the search stands; see `Start.place`."""
        number = len(rows) + skip
        return number if number < self.count else None


class TPEStart(_Counted):
    """A search by sampling before its first sample; each depends on all of the rounds before its own.

    Attributes:
        together: samples of a round.
    """

    sort: Literal["tpe"] = "tpe"
    together: int = Field(default=1, ge=1)

    def place(self, rows: Sequence[Row], skip: int = 0) -> Hashable | None:
        """Return where the search stands, see `Start.place`; None where a sample depends on unknown ones."""
        number = len(rows) + skip
        known = number // self.together * self.together <= len(rows)
        return number if number < self.count and known else None

    def round_end(self, number: int) -> int:
        """Return the number after the last sample of the round of sample ``number``."""
        return min(self.count, (number // self.together + 1) * self.together)
