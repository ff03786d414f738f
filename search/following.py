"""Follow a search from afar: which settings are next, and whether it is over. Needs no torch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .guarded.machine import GuardedSearch, GuardedState, Probes
from .ptn.machine import PTNSearch, PTNState
from .training.settings import TuneSettings

Row = dict[str, Any]


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
        """The state after the evaluated settings ``rows``."""
        state = self.search.start(
            forget_count=self.forget_count,
            train_count=self.train_count,
            victim_forget_accuracy=self.forget_accuracy,
        )
        return self.search.replay(state, (row["forget_accuracy"] for row in rows))

    def place(self, rows: Sequence[Row], skip: int = 0) -> Hashable | None:
        """Where the search stands ``skip`` settings after ``rows``, if none of them changes its direction.

        Equal places go on equally. None: it is over by then.
        """
        state = self.search.ahead(self.after(rows), skip)
        if state.status != "searching":
            return None
        return (state.s, state.offset, state.walked_back, state.fine_until)

    def needed(self, rows: Sequence[Row]) -> int:
        """How many of ``rows`` the search takes: all up to its end."""
        return len(self.after(rows).trace)


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
        """The state after the measured steps ``rows``."""
        measures = ((row["healed"], row["flips_target"], row["flips_other"], row["harm"]) for row in rows)
        return self.search.replay(self.probes, measures)

    def place(self, rows: Sequence[Row], skip: int = 0) -> Hashable | None:
        """See `PTNStart.place`; None also for any step but the next."""
        state = self.after(rows)
        return None if skip or state.phase == "over" else len(state.trace)

    def needed(self, rows: Sequence[Row]) -> int:
        """See `PTNStart.needed`."""
        return len(self.after(rows).trace)


class _Counted(BaseModel):
    """A search of so many settings.

    Attributes:
        count: how many there are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=1)

    def needed(self, rows: Sequence[Row]) -> int:
        """See `PTNStart.needed`."""
        return min(len(rows), self.count)


class GridStart(_Counted):
    """A grid before its first pair."""

    sort: Literal["grid"] = "grid"

    def place(self, rows: Sequence[Row], skip: int = 0) -> Hashable | None:
        """See `PTNStart.place`."""
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
        """See `PTNStart.place`; None also where a sample depends on what is not known yet."""
        number = len(rows) + skip
        known = number // self.together * self.together <= len(rows)
        return number if number < self.count and known else None

    def round_end(self, number: int) -> int:
        """The number after the last sample of the round of sample ``number``."""
        return min(self.count, (number // self.together + 1) * self.together)


def start_of(settings: TuneSettings) -> TPEStart:
    """The start of a search over hyperparameters of a method that trains; it depends on no data."""
    together = settings.together if settings.search == "tpe" else 1
    return TPEStart(count=settings.setting_count, together=together)


Start = PTNStart | GridStart | TPEStart | GuardedStart
AnyStart = Annotated[Start, Field(discriminator="sort")]
"""A `Start` as a field of a model."""
