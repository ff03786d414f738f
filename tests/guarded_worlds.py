"""Made-up worlds for the guarded search: which rank heals what, and which harms whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from theriac.search.guarded.machine import GuardedSearch, GuardedState, Measures, Probes

Measure = Callable[[int, tuple[int, ...]], tuple[float, float, float]]


def probes(limit: int = 1000, **sizes: Any) -> Probes:
    return Probes(
        **{"suspected": 100, "target": 300, "other": 300, "target_rate": 0.1, **sizes, "limit": limit}
    )


def harm_of(target: float, other: float, sizes: Probes) -> float:
    """Where nothing that was mistaken is predicted as labelled afterwards."""
    return sizes.target_rate * target + (1 - sizes.target_rate) * other


def run(
    measure: Measure, sizes: Probes, search: GuardedSearch | None = None
) -> tuple[GuardedState, list[Measures]]:
    """A search from beginning to end, and what it measured."""
    search, measured = search or GuardedSearch(), list[Measures]()
    state = search.start(sizes)
    while state.status == "searching":
        healed, target, other = measure(state.count, state.left_out)
        walked = (healed, target, other, harm_of(target, other, sizes))
        measured.append(walked if state.phase == "walking" else (healed, None, None, None))
        state = search.update(state, *measured[-1])
    return state, measured


@dataclass(frozen=True, kw_only=True)
class World:
    """Ranks that each make a part of the probes flip; how many are dampened says what share is healed.

    Attributes:
        limit: how many ranks.
        half: the count that heals half; twice that heals all.
        plateau: less than that heals nothing, and more than that no more than 0.6.
        target, other: rank -> share of the probe that it flips.
        slope: of both probes, from the first rank to the last, spread evenly.
    """

    limit: int
    half: int
    target: dict[int, float]
    other: dict[int, float]
    slope: float = 0.0
    plateau: bool = False

    def healed(self, count: int) -> float:
        if self.plateau:
            return 0.6 if count >= self.half else 0.0
        return min(1.0, 0.5 * count / self.half)

    def __call__(self, count: int, left_out: tuple[int, ...]) -> tuple[float, float, float]:
        spread = self.slope * count / self.limit
        target, other = (
            min(
                1.0,
                spread + sum(share for rank, share in sharp.items() if rank < count and rank not in left_out),
            )
            for sharp in (self.target, self.other)
        )
        return self.healed(count - sum(rank < count for rank in left_out)), target, other


def bare(limit: int = 1000, half: int = 100, **more: Any) -> World:
    return World(**{"limit": limit, "half": half, "target": {}, "other": {}, **more})
