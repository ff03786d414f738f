"""Searches over pairs of alpha and lambda, in instalments; see `Searching`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from ...rows import Row
from ..in_order import InOrder
from ..interface import Count
from .finding import GridFinding
from .pairs import GoelGrid, GridRow
from .sampled import TPESearch
from .scorer import PairScorer, grid_rows
from .start import GridStart, TPEStart


class _PairSearching:
    """What searches over pairs of alpha and lambda have in common."""

    def __init__(self, scorer: PairScorer, held_out_count: int) -> None:
        self._scorer, self._held_out_count = scorer, held_out_count

    def finding(self, history: Sequence[Row]) -> GridFinding:
        """Return what the search found; see `Searching`."""
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
        """Evaluate the pairs that follow; see `Searching`."""
        first = len(history) + skip
        stop = None if count is None else first + count
        return [asdict(row) for row in grid_rows(self._grid, self._scorer, first, stop, progress)]


class TPESearching(_PairSearching, InOrder):
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

    def settings_after(self, history: Sequence[Row]) -> Iterator[Row]:
        """Sample pairs and evaluate them; see `InOrder`."""
        sampler = self._search.sampler(history)
        for _ in range(self._search.samples - len(history)):
            row = asdict(self._scorer.row(*sampler.ask()))
            sampler.tell(row["score"])
            yield row
