"""Averages of groups of rows: every column of a group over the same rows."""

from __future__ import annotations

from itertools import repeat

import numpy as np

from .blocks import interval
from .fields import Rows
from .groups import Groups
from .spread import Spread

MEASURES = (
    "clean_accuracy_before",
    "clean_accuracy",
    "damage",
    "asr_before",
    "asr",
    "healed_raw_before",
    "healed_raw",
    "healed",
    "alpha",
    "dampening_constant",
    "steps",
    "dampened",
    "seconds",
)
"""What is averaged."""


class Averages:
    """Averages over groups of rows.

    Rows that failed, or whose victim failed its gate, are counted and not averaged. All other rows of a group
    are what each of its averages is over: where one of them lacks a measure, there is no average.

    Args:
        rows: of ``searches``.
        groups: of them.
    """

    def __init__(self, rows: Rows, groups: Groups) -> None:
        self._rows, self._groups = rows, groups
        self.scored = rows.scored()
        places = np.flatnonzero(self.scored)
        self._order = places[np.argsort(groups.codes[places], kind="stable")]
        self._sorted_codes = groups.codes[self._order]
        size = len(groups)
        self.counts = np.bincount(groups.codes, minlength=size)
        self.n = np.bincount(groups.codes[self.scored], minlength=size)

    def of(self, measure: str, *, blocks: np.ndarray | None = None) -> list[Spread | None]:
        """Return the spread of a measure in every group; None where no row has it.

        Args:
            measure: a field of the rows.
            blocks: int64 [N], for the 95 % interval of the mean by the bootstrap: rows with one number were
                made from one victim, and stay together. None: no interval.
        """
        return self.of_values(self._rows.numbers(measure), blocks=blocks)

    def of_values(self, values: np.ndarray, *, blocks: np.ndarray | None = None) -> list[Spread | None]:
        """Return the same of values, float64 [N], NaN where a row has none."""
        sorted_values = values[self._order]
        known = ~np.isnan(sorted_values)
        codes, held = self._sorted_codes[known], sorted_values[known]
        n = np.bincount(codes, minlength=len(self._groups))
        found = _spreads(n, self.n, *_moments(codes, held, n))
        if blocks is None:
            return found
        return [one and self._with_interval(k, one, values, blocks) for k, one in enumerate(found)]

    def _with_interval(self, group: int, spread: Spread, values: np.ndarray, blocks: np.ndarray) -> Spread:
        if spread.mean is None:
            return spread
        members = self._groups.members(group)
        members = members[self.scored[members]]
        low, high = interval(values[members], blocks[members])
        return spread._replace(low=low, high=high)

    def statuses(self) -> list[dict[str, int]]:
        """Return status -> number of rows, of every group, in the order of its rows."""
        status = self._rows.coded("status")
        size = max(1, len(status.values))
        both, first, counts = np.unique(
            self._groups.codes * size + status.codes, return_index=True, return_counts=True
        )
        found: list[dict[str, int]] = [{} for _ in range(len(self._groups))]
        for place in np.argsort(first, kind="stable"):
            group, code = divmod(int(both[place]), size)
            found[group][str(status.values[code])] = int(counts[place])
        return found


def _spreads(
    n: np.ndarray, scored: np.ndarray, mean: np.ndarray, sd: np.ndarray, median: np.ndarray
) -> list[Spread | None]:
    """Return what each group has of a measure: n of its rows that were scored."""
    rows = zip(mean.tolist(), sd.tolist(), n.tolist(), median.tolist(), repeat(None), repeat(None))
    found: list[Spread | None] = list(map(Spread._make, rows))
    for group in np.flatnonzero((n < 2) | (n < scored) | ~np.isfinite(sd)):
        count = int(n[group])
        if not count or count < scored[group]:
            found[group] = Spread(None, None, count) if count else None
        else:
            found[group] = Spread(float(mean[group]), None, count, float(median[group]))
    return found


def _moments(codes: np.ndarray, values: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return mean, sample standard deviation and median of each group; infinite values stay infinite.

    Args:
        codes: int64 [N], ascending: the group of each value.
        values: float64 [N].
        n: int64 [G]: how many values each group has.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(codes, values, minlength=len(n)) / n
        squares = np.bincount(codes, (values - mean[codes]) ** 2, minlength=len(n))
        sd = np.sqrt(squares / (n - 1))
        return mean, sd, _medians(values, n)


def _medians(values: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Return the median of each group; groups of one size are sorted together."""
    found, starts = np.full(len(n), np.nan), np.cumsum(n) - n
    for size in np.unique(n[n > 0]):
        alike = np.flatnonzero(n == size)
        found[alike] = np.median(values[starts[alike][:, None] + np.arange(size)], axis=1)
    return found
