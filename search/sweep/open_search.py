"""A search that several workers carry on in blocks, with the answer that one worker alone would get."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from ...rows import Row
from ..interface import Start

MANY = 1 << 30


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """Settings of a search that one worker evaluates.

    Attributes:
        history: rows of the settings before them, as far as they were known when the block was given out.
        skip: settings after these that other blocks hold.
        count: how many settings, at most.
        alone: no other block was out: the worker may finish the search.
        place: where the search stands at its first setting, if nothing changes its direction before; None
            where that is not known yet.
    """

    history: tuple[Row, ...]
    skip: int
    count: int
    alone: bool
    place: Hashable | None

    @property
    def first(self) -> int:
        """Return the number of the first setting, from 0."""
        return len(self.history) + self.skip


class OpenSearch:
    """Gives out blocks, takes their rows in any order, and puts them together in the order of the search.

    Rows of a block count if the search really came to the place where the block began; else they are thrown
    away: somebody speculated that nothing would happen before, and something did.

    Args:
        start: how to follow the search, where that is known before anything is computed.

    Attributes:
        start: how to follow the search; None before the first block has come, where it was not given.
        history: rows of all settings up to the first that is missing.
        seconds: that all settings took, wasted ones included.
        wasted: settings that were evaluated in vain.
        complete: whether the rows of all settings are there.
    """

    def __init__(self, start: Start | None = None) -> None:
        self.start = start
        self.history: tuple[Row, ...] = ()
        self.seconds = 0.0
        self.wasted = 0
        self.complete = False
        self._speculative = True
        self._out: list[Block] = []
        self._early: dict[int, tuple[Block, tuple[Row, ...]]] = {}

    @property
    def begun(self) -> bool:
        """Tell whether a block is out, or was evaluated."""
        return bool(self._out or self._early or self.history or self.complete)

    @property
    def out(self) -> int:
        """Count the blocks that workers have now."""
        return len(self._out)

    def next_block(self, count: int, *, speculate: bool = False) -> Block | None:
        """Return a block to give out; None if there is nothing to evaluate now.

        Args:
            count: settings, at most; at least 1.
            speculate: also settings that the search comes to only if nothing happens in the blocks that are
                out.
        """
        if self.start is None:
            return (
                None
                if self._out
                else self._give(Block(history=(), skip=0, count=count, alone=True, place=None))
            )
        if self.complete:
            return self._to_finish()
        first, room = self._uncovered()
        skip = first - len(self.history)
        if skip and not (speculate and self._speculative):
            return None  # before the place is asked for: that takes longer than all the rest
        place = self.start.place(self.history, skip)
        if place is None:
            return None
        return self._give(
            Block(history=self.history, skip=skip, count=min(count, room), alone=not self._out, place=place)
        )

    def take(self, block: Block, start: Start, rows: Sequence[Row], seconds: float) -> None:
        """Take the rows of a block that have come."""
        self._out.remove(block)
        self.start = start
        self.seconds += seconds
        self._early[block.first] = (block, tuple(rows))
        while len(self.history) in self._early:
            self._append(*self._early.pop(len(self.history)))
        self.complete = start.place(self.history) is None
        if self.complete:
            self.wasted += sum(len(late) for _, late in self._early.values())
            self._early.clear()

    def give_back(self, block: Block, *, failed: bool = False) -> None:
        """Take back a block: its worker died, or (``failed``) a setting in it raised or kills.

        After a failure nobody speculates any more: the search may never come to that setting.
        """
        self._out.remove(block)
        self._speculative = self._speculative and not failed

    def _to_finish(self) -> Block | None:
        """Return a block to score what was found, as nothing is left to evaluate; once at a time."""
        if any(block.alone for block in self._out):
            return None
        return self._give(Block(history=self.history, skip=0, count=1, alone=True, place=None))

    def _uncovered(self) -> tuple[int, int]:
        """Find the first setting that is neither evaluated nor given out, and how many follow like it."""
        spans = [(block.first, block.first + block.count) for block in self._out]
        spans += [(first, first + block.count) for first, (block, _) in self._early.items()]
        first = len(self.history)
        while True:
            end = max((stop for start, stop in spans if start <= first < stop), default=first)
            if end == first:
                return first, min((start - first for start, _ in spans if start > first), default=MANY)
            first = end

    def _give(self, block: Block) -> Block:
        self._out.append(block)
        return block

    def _append(self, block: Block, rows: tuple[Row, ...]) -> None:
        if self.start is None or block.place not in (None, self.start.place(self.history)):
            self.wasted += len(rows)
            return
        kept = self.start.needed((*self.history, *rows))
        self.wasted += len(self.history) + len(rows) - kept
        self.history = (*self.history, *rows)[:kept]
