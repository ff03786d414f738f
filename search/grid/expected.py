"""What a plan expects of searches over pairs of alpha and lambda."""

from __future__ import annotations

from ..expected import HeldOut, Sizes
from .settings import GridFields, TPEFields
from .start import GridStart, TPEStart


class ExpectedGrid(HeldOut[GridFields, GridStart]):
    """A grid: all its pairs.

    `HealSettings` has the fields of all searches: which of them counts is said by name.
    """

    assumed = "a grid tries all its pairs, and each dampens something (those that do not are cheaper)"

    def count(self, settings: GridFields, measured: float | None) -> int:
        """Return the number of pairs; see `Expected.count`."""
        return GridFields.evaluated(settings)

    def start(self, settings: GridFields, sizes: Sizes) -> GridStart:
        """Return a start to plan with; see `Expected.start`."""
        return GridStart(count=GridFields.evaluated(settings))


class ExpectedTPE(HeldOut[TPEFields, TPEStart]):
    """A search by sampling: all its samples, each after all before it."""

    assumed = "every sampled pair dampens something (those that do not are cheaper)"

    def count(self, settings: TPEFields, measured: float | None) -> int:
        """Return the number of samples; see `Expected.count`."""
        return TPEFields.evaluated(settings)

    def start(self, settings: TPEFields, sizes: Sizes) -> TPEStart:
        """Return a start to plan with; see `Expected.start`."""
        return TPEStart(count=TPEFields.evaluated(settings))
