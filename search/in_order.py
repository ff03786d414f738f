"""Searches whose every setting depends on all before it: the loop they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import islice

from ..rows import Row
from .interface import Count


class InOrder(ABC):
    """A search that evaluates one setting after another; see `Searching`."""

    @abstractmethod
    def settings_after(self, history: Sequence[Row]) -> Iterator[Row]:
        """Evaluate the settings after ``history``, each when its row is asked for, to the end."""

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """Evaluate further settings; see `Searching`. None can be skipped.

        Raises:
            ValueError: skip is not 0.
        """
        if skip:
            raise ValueError("a setting depends on all before it, so none can be skipped")
        found: list[Row] = []
        for row in islice(self.settings_after(history), count):
            found.append(row)
            if progress:
                progress(len(history) + len(found))
        return found
