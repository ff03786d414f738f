"""Averages of groups of rows: every column of a group over the same rows."""

from __future__ import annotations

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
        known = self.scored & ~np.isnan(values)
        codes, held = self._groups.codes[known], values[known]
        n = np.bincount(codes, minlength=len(self._groups))
        mean, sd, median = _moments(codes, held, n)
        whole = n == self.n
        found: list[Spread | None] = []
        for group in range(len(n)):
            if not n[group]:
                found.append(None)
                continue
            if not whole[group]:
                found.append(Spread(mean=None, sd=None, n=int(n[group])))
                continue
            low, high = (None, None) if blocks is None else self._interval(group, values, blocks)
            deviation = float(sd[group]) if n[group] > 1 and np.isfinite(sd[group]) else None
            found.append(
                Spread(
                    mean=float(mean[group]),
                    sd=deviation,
                    median=float(median[group]),
                    low=low,
                    high=high,
                    n=int(n[group]),
                )
            )
        return found

    def _interval(
        self, group: int, values: np.ndarray, blocks: np.ndarray
    ) -> tuple[float | None, float | None]:
        members = self._groups.members(group)
        members = members[self.scored[members]]
        return interval(values[members], blocks[members])

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


def _moments(codes: np.ndarray, values: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return mean, sample standard deviation and median of each group; infinite values stay infinite."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.bincount(codes, values, minlength=len(n)) / n
        squares = np.bincount(codes, (values - mean[codes]) ** 2, minlength=len(n))
        sd = np.sqrt(squares / (n - 1))
    return mean, sd, _medians(codes, values, n)


def _medians(codes: np.ndarray, values: np.ndarray, n: np.ndarray) -> np.ndarray:
    found = np.full(len(n), np.nan)
    order = np.lexsort((values, codes))
    ends = np.cumsum(n)
    there = n > 0
    lower = (ends - n + (n - 1) // 2)[there]
    upper = (ends - n + n // 2)[there]
    held = values[order]
    found[there] = (held[lower] + held[upper]) / 2
    return found
