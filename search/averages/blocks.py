"""Intervals and tests over blocks: all rows of one victim stand or fall together.

Rows of one setup and seed share their victim, their S_m and their data, so they are no independent
measurements. What is resampled, and what is paired, is the victim.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000
LEVEL = 0.95
SIGNIFICANT = 0.05
MOST_EXACT = 10_000
"""Sign patterns that a test tries; all of them up to 13 blocks."""


def interval(values: np.ndarray, blocks: np.ndarray) -> tuple[float | None, float | None]:
    """Return the 95 % bootstrap interval of a mean; (None, None) from a single block.

    Blocks are drawn with replacement, 2,000 times, from a fixed seed; the mean is over the rows drawn.

    Args:
        values: float64 [N], finite.
        blocks: int64 [N].
    """
    _, codes = np.unique(blocks, return_inverse=True)
    count = int(codes.max()) + 1 if len(codes) else 0
    if count < 2 or not np.isfinite(values).all():
        return None, None
    sums, sizes = np.bincount(codes, values), np.bincount(codes)
    drawn = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def better_everywhere(lines: Sequence[dict[int, float]], *, higher: bool) -> int | None:
    """Find the line that is better than every other one, beyond what chance makes of so few blocks.

    Two lines are compared on the blocks that both have, by the sign-flip permutation test of the mean
    difference (two-sided); p values are corrected by Holm's procedure for as many comparisons as there are
    other lines.

    Args:
        lines: block -> mean of the block's rows, of each line.
        higher: whether more is better.

    Returns:
        Position of the line; None where none is better than all others at the 5 % level.
    """
    filled = [number for number, line in enumerate(lines) if line]
    if len(filled) < 2:
        return None
    sign = 1.0 if higher else -1.0
    best = max(filled, key=lambda number: sign * float(np.mean(list(lines[number].values()))))
    others = [number for number in filled if number != best]
    p_values = [_p_value(lines[best], lines[number], sign) for number in others]
    return best if all(p < SIGNIFICANT for p in _holm(p_values)) else None


def _p_value(ours: dict[int, float], theirs: dict[int, float], sign: float) -> float:
    common = sorted(ours.keys() & theirs.keys())
    gaps = np.array([sign * (ours[block] - theirs[block]) for block in common])
    if len(gaps) < 2 or not np.isfinite(gaps).all() or gaps.mean() <= 0:
        return 1.0
    from scipy.stats import permutation_test  # takes a second to import, and few ask for a test

    found = permutation_test(
        (gaps,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=MOST_EXACT,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number, step down (Holm, 1979)."""
    order, running = np.argsort(p_values), 0.0
    corrected = [0.0] * len(p_values)
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = running
    return corrected
