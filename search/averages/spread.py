"""What an average says."""

from __future__ import annotations

from typing import NamedTuple


class Spread(NamedTuple):
    """What rows of one line have of a measure.

    Attributes:
        mean: None where a row of the line lacks the measure: an average would be over other rows than the
            line's.
        sd: sample standard deviation; None for fewer than two rows.
        median: likewise None where a row lacks it.
        low: of the 95 % interval of the mean, where it was asked for.
        high: likewise.
        n: how many rows of the line have it.
    """

    mean: float | None
    sd: float | None
    n: int
    median: float | None = None
    low: float | None = None
    high: float | None = None
