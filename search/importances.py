"""The importances of a victim, computed once for all discovery shares, methods and settings, and stored.

With granularity "sample" importances are sums over samples: I(retain) = I(S_tr) - I(S_f) for every share, and
S_f is made of the pieces of S_m that lie between neighbouring tenths (and its first sample), each computed
once. So eleven shares cost one reading of S_tr and one of S_m. The pieces are always the same ones, added in
the same order: the result does not depend on which share was asked for first. With granularity "batch" the
boundaries of the batches shift with the share, and nothing can be shared.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import pairwise

from torch import nn

from .. import __version__
from ..datasets.poisoning import PoisonedData, Share, discovered_count
from ..datasets.views import View
from ..unlearning.importance import Importance, Kind, estimate_importances
from .artifacts import ArtifactStore
from .operation import ImportancePair, Progress, silent
from .provenance import row_key
from .settings import HealSettings

TOGETHER: dict[Kind, tuple[Kind, ...]] = {"fim": ("fim",), "lf": ("lf", "xlf"), "xlf": ("lf", "xlf")}
"""Kinds that one traversal of granularity "sample" gives."""


@dataclass(frozen=True, kw_only=True)
class TimedPair:
    """Importances of S_f and of retain, and the seconds their parts took, whenever that was."""

    pair: ImportancePair
    seconds: float


def piece_bounds(manipulated: int, discovered: int) -> list[int]:
    """Where the pieces of the first ``discovered`` samples of S_m begin and end: 0, 1, tenths of |S_m|, ...

    Strictly ascending, from 0 to ``discovered``.
    """
    tenths = {round(manipulated * tenth / 10) for tenth in range(11)}
    return sorted(bound for bound in tenths | {0, 1, discovered} if bound <= discovered)


class VictimImportances:
    """Importances of one victim on the parts of its training set.

    Args:
        data: the poisoned data.
        victim: gives the model, when something has to be computed; called once, and the model is kept.
        key: of the victim in the store.
        store: where importances are kept.
    """

    def __init__(
        self, data: PoisonedData, victim: Callable[[], nn.Module], key: str, store: ArtifactStore
    ) -> None:
        self.data, self.key, self.store = data, key, store
        self.victim = cache(victim)

    def of(self, share: Share, settings: HealSettings, progress: Progress = silent) -> TimedPair:
        """The importances that a method works with at a discovery share, on the device of the data."""
        if settings.granularity == "batch":
            return self._by_batch(share, settings, progress)
        forget, seconds = self._of_forget(share, settings, progress)
        whole, more = self._stored(["S_tr"], self.data.train(), settings, progress)
        return TimedPair(pair=(forget, whole - forget), seconds=seconds + more)

    def _of_forget(
        self, share: Share, settings: HealSettings, progress: Progress
    ) -> tuple[Importance, float]:
        """The sum of the pieces of S_f, of which one at a time is in memory beside the sum."""
        count = discovered_count(self.data.manipulated, share)
        pieces = (
            self._stored(["S_m", start, stop], self._piece(start, stop), settings, progress)
            for start, stop in pairwise(piece_bounds(self.data.manipulated, count))
        )
        return reduce(lambda sums, piece: (sums[0] + piece[0], sums[1] + piece[1]), pieces)

    def _by_batch(self, share: Share, settings: HealSettings, progress: Progress) -> TimedPair:
        size = settings.batch_size
        forget, retain = self.data.forget(share).batched(size), self.data.retain(share).batched(size)
        of_forget, seconds = self._stored(["S_f", str(share), size], forget, settings, progress)
        of_retain, more = self._stored(["retain", str(share), size], retain, settings, progress)
        return TimedPair(pair=(of_forget, of_retain), seconds=seconds + more)

    def _piece(self, start: int, stop: int) -> View:
        return self.data.train().select(self.data.order[start:stop])

    def _stored(
        self, part: Sequence[str | int], samples: View, settings: HealSettings, progress: Progress
    ) -> tuple[Importance, float]:
        """Importances of ``samples`` and the seconds they took, from the store or computed now."""
        key = self._key(part, settings, settings.kind)
        if self.store.find_importance(key) is None:
            with self.store.making(self._key(part, settings, self._kinds(settings)[0])):
                if self.store.find_importance(key) is None:
                    self._compute(part, samples, settings, progress)
        found = self.store.importance(key)
        return Importance.load(found.path, self.data.device), found.info["seconds"]

    def _compute(
        self, part: Sequence[str | int], samples: View, settings: HealSettings, progress: Progress
    ) -> None:
        kinds, name = self._kinds(settings), part[0]
        start = time.perf_counter()
        found = estimate_importances(
            self.victim(),
            samples,
            kinds=kinds,
            granularity=settings.granularity,
            precision=settings.precision,
            progress=lambda done: progress(f"importance of {name}", done, len(samples)),
        )
        info = {"part": list(part), "kinds": list(kinds), "seconds": time.perf_counter() - start}
        for kind, importance in found.items():
            self.store.put_importance(self._key(part, settings, kind), importance, info)

    def _kinds(self, settings: HealSettings) -> tuple[Kind, ...]:
        return TOGETHER[settings.kind] if settings.granularity == "sample" else (settings.kind,)

    def _key(self, part: Sequence[str | int], settings: HealSettings, kind: Kind) -> str:
        return row_key(self.key, list(part), kind, settings.granularity, settings.precision, __version__)
