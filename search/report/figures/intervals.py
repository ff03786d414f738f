"""The interval of a mean over a few seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

WORDS = "points are means over seeds, bars their 95 % intervals (Student's t; none for a single seed)"
_FIRST = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060)
"""Quantiles of Student's t at 0.975, for 1 to 8 degrees of freedom."""


class Mean(NamedTuple):
    """A mean, and its 95 % interval.

    Attributes:
        mean: of the values.
        low: end of the interval; that of the mean for a single value.
        high: likewise.
        n: how many values.
    """

    mean: float
    low: float
    high: float
    n: int


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of independent values, with Student's 95 % interval.

    Example:
        >>> low, high = mean_of([1.0, 2.0, 3.0])[1:3]
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    middle, n = statistics.fmean(values), len(values)
    if n < 2:
        return Mean(middle, middle, middle, n)
    half = student(n - 1) * statistics.stdev(values, middle) / math.sqrt(n)
    return Mean(middle, middle - half, middle + half, n)


def student(freedom: int) -> float:
    """Return Student's t at 0.975; from 9 degrees of freedom on by Cornish and Fisher, to 4 digits."""
    if freedom <= len(_FIRST):
        return _FIRST[freedom - 1]
    z: float = statistics.NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / freedom**power for power, term in enumerate(terms, start=1))
