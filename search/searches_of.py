"""A search in instalments: each carries on from what was evaluated before, here or on another machine.

What was evaluated goes over the wire as rows of scalars. A search started anew from any prefix of its rows
goes on as if it had never stopped, to the bit; so does one that skips steps which somebody else evaluates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from .dampening_problem import DampeningProblem
from .following import GridStart, GuardedStart, PTNStart, Start, TPEStart
from .grid.pairs import GoelGrid, GridRow
from .grid.sampled import TPESearch
from .grid.scorer import PairScorer, grid_rows
from .guarded.finding import GuardedFinding
from .guarded.problem import GuardedProblem
from .interface import Finding, GridFinding, PTNFinding
from .ptn.driver import advance_ptn, conclude_ptn, evaluation_from, row_from

Row = dict[str, Any]
Count = Callable[[int], None]
GUARDED_MEASURES = ("healed", "flips_target", "flips_other", "harm")


class Searching(Protocol):
    """A search on the problem it works on.

    Attributes:
        start: what another process must know to follow the search.
    """

    @property
    def start(self) -> Start: ...

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """Evaluate further settings.

        Args:
            history: rows of all settings evaluated so far, in order.
            skip: settings after these that others evaluate; what they find is taken to change nothing.
            count: at most this many settings; None: all that are left.
            progress: called with the number of settings up to the one just done.

        Returns:
            Their rows; fewer than ``count`` where the search ends.
        """
        ...

    def finding(self, history: Sequence[Row]) -> Finding:
        """What the search found, of the rows of all its settings."""
        ...


class PTNSearching:
    """A PTN search.

    Args:
        start: settings and sizes.
        problem: what is searched.
        constant: lambda of all steps.
    """

    def __init__(self, start: PTNStart, problem: DampeningProblem, constant: float) -> None:
        self.start = start
        self._problem, self._constant = problem, constant

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """See `Searching`."""
        search = self.start.search
        state = search.ahead(self.start.after(history), skip)
        _, evaluations = advance_ptn(search, state, self._problem, progress, count=count)
        return [row_from(evaluation) for evaluation in evaluations]

    def finding(self, history: Sequence[Row]) -> PTNFinding:
        """See `Searching`."""
        evaluations = [evaluation_from(row) for row in history]
        outcome = conclude_ptn(self.start.after(history), evaluations, self._problem)
        return PTNFinding(search=self.start.search, outcome=outcome, constant=self._constant)


class _PairSearching:
    """What searches over pairs of alpha and lambda have in common."""

    def __init__(self, scorer: PairScorer, held_out_count: int) -> None:
        self._scorer, self._held_out_count = scorer, held_out_count

    def finding(self, history: Sequence[Row]) -> GridFinding:
        """See `Searching`."""
        outcome = self._scorer.outcome(GridRow(**row) for row in history)
        return GridFinding(outcome=outcome, held_out_count=self._held_out_count)


class GridSearching(_PairSearching):
    """A grid.

    Args:
        grid: which pairs.
        scorer: of the problem.
        held_out_count: samples it is judged on, besides S_f.
    """

    def __init__(self, grid: GoelGrid, scorer: PairScorer, held_out_count: int) -> None:
        super().__init__(scorer, held_out_count)
        self._grid = grid
        self.start = GridStart(count=len(grid.pairs()))

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """See `Searching`."""
        first = len(history) + skip
        stop = None if count is None else first + count
        return [asdict(row) for row in grid_rows(self._grid, self._scorer, first, stop, progress)]


class TPESearching(_PairSearching):
    """Sampled pairs, each after all before it are known.

    Args:
        search: how many, from where.
        scorer: of the problem.
        held_out_count: samples they are judged on, besides S_f.
    """

    def __init__(self, search: TPESearch, scorer: PairScorer, held_out_count: int) -> None:
        super().__init__(scorer, held_out_count)
        self._search = search
        self.start = TPEStart(count=search.samples)

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """See `Searching`; nothing can be skipped.

        Raises:
            ValueError: skip is not 0.
        """
        if skip:
            raise ValueError("a sample depends on all before it, so none can be skipped")
        sampler, found = self._search.sampler(history), list[Row]()
        left = self._search.samples - len(history)
        for number in range(left if count is None else min(left, count)):
            found.append(asdict(self._scorer.row(*sampler.ask())))
            sampler.tell(found[-1]["score"])
            if progress:
                progress(len(history) + number + 1)
        return found


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
        """See `Searching`; nothing can be skipped.

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
        """See `Searching`."""
        return GuardedFinding.of(self.start, self.start.after(history), self._problem, self._constant)
