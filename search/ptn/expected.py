"""What a plan expects of a PTN search."""

from __future__ import annotations

from collections.abc import Sequence

from ...rows import Row
from ..expected import Expected, Sizes
from .settings import PTNFields
from .start import PTNStart

USUAL_STEPS = 40
"""Plain steps after which a PTN search is taken to stop where no earlier run measured it."""
AUTOMATIC_RHO = 0.2
"""Made-up accuracies are 1 or 0: where the threshold lies between them plays no part."""


class ExpectedPTN(Expected[PTNFields, PTNStart]):
    """A walk that crosses at its plain step number ``measured``, from 1."""

    assumed = f"a PTN search stops after {USUAL_STEPS} steps"
    counted = False

    def count(self, settings: PTNFields, measured: float | None) -> int:
        """Return the number of steps, see `Expected.count`; a strategy may evaluate fewer or some again."""
        sizes = Sizes(forget=1, train=1000, measured=measured)
        start = self.start(settings, sizes)
        return len(self.rows(start, settings, sizes, [], 0, settings.max_steps))

    def start(self, settings: PTNFields, sizes: Sizes) -> PTNStart:
        """Return a start to plan with; see `Expected.start`."""
        return PTNStart(
            search=settings.ptn(AUTOMATIC_RHO if settings.rho == "auto" else settings.rho),
            forget_count=sizes.forget,
            train_count=sizes.train,
            forget_accuracy=1.0,
        )

    def rows(
        self,
        start: PTNStart,
        settings: PTNFields,
        sizes: Sizes,
        history: Sequence[Row],
        skip: int,
        count: int,
    ) -> list[Row]:
        """Return made-up rows of the steps that follow; see `Expected.rows`."""
        rows: list[Row] = []
        stop = max(1, min(settings.max_steps, round(sizes.measured or USUAL_STEPS)))
        state = start.search.ahead(start.after(history), skip)
        while state.status == "searching" and len(rows) < count:
            forget_accuracy = 0.0 if state.offset >= stop - 1 else 1.0
            rows.append({"forget_accuracy": forget_accuracy})
            state = start.search.update(state, forget_accuracy)
        return rows
