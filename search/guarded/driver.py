"""A guarded search in instalments; see `Searching`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ...rows import Row
from ..in_order import InOrder
from .finding import GuardedFinding
from .problem import GuardedProblem
from .start import GuardedStart

GUARDED_MEASURES = ("healed", "flips_target", "flips_other", "harm")


class GuardedSearching(InOrder):
    """A guarded search; each step depends on all before it.

    Args:
        start: settings and sizes.
        problem: what is searched.
        dampening_constant: lambda of all steps.
    """

    def __init__(self, start: GuardedStart, problem: GuardedProblem, dampening_constant: float) -> None:
        self.start = start
        self._problem, self._dampening_constant = problem, dampening_constant

    def settings_after(self, history: Sequence[Row]) -> Iterator[Row]:
        """Measure steps until the search is over; see `InOrder`."""
        state = self.start.after(history)
        while state.phase != "over":
            measures = self._problem.measure(state.count, state.left_out, flips=state.phase == "walking")
            state = self.start.search.update(state, *measures)
            yield dict(zip(GUARDED_MEASURES, measures, strict=True))

    def finding(self, history: Sequence[Row]) -> GuardedFinding:
        """Return what the search found; see `Searching`."""
        return GuardedFinding.of(
            self.start, self.start.after(history), self._problem, self._dampening_constant
        )
