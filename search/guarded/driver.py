"""A guarded search in instalments; see `Searching`."""

from __future__ import annotations

from collections.abc import Sequence

from ..interface import Count, Row
from .finding import GuardedFinding
from .problem import GuardedProblem
from .start import GuardedStart

GUARDED_MEASURES = ("healed", "flips_target", "flips_other", "harm")


class GuardedSearching:
    """A guarded search; each step depends on all before it.

    Args:
        start: settings and sizes.
        problem: what is searched.
        constant: lambda of all steps.
    """

    def __init__(self, start: GuardedStart, problem: GuardedProblem, constant: float) -> None:
        self.start = start
        self._problem, self._constant = problem, constant

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """Measure the steps that follow; see `Searching`. Nothing can be skipped.

        Raises:
            ValueError: skip is not 0.
        """
        if skip:
            raise ValueError("a step depends on all before it, so none can be skipped")
        state, rows = self.start.after(history), list[Row]()
        while state.phase != "over" and (count is None or len(rows) < count):
            measures = self._problem.measure(state.count, state.left_out, flips=state.phase == "walking")
            rows.append(dict(zip(GUARDED_MEASURES, measures, strict=True)))
            state = self.start.search.update(state, *measures)
            if progress:
                progress(len(state.trace))
        return rows

    def finding(self, history: Sequence[Row]) -> GuardedFinding:
        """Return what the search found; see `Searching`."""
        return GuardedFinding.of(self.start, self.start.after(history), self._problem, self._constant)
