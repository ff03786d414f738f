"""The importances of a victim, computed once for all discovery shares, methods and settings, and stored.

With granularity "sample" importances are sums over samples: I(retain) = I(S_tr) - I(S_f) for every share, and
S_f is made of the pieces of S_m that lie between neighbouring tenths (and its first sample), each computed
once. So eleven shares cost one reading of S_tr and one of S_m. The pieces are always the same ones, added in
the same order: the result does not depend on which share was asked for first. With granularity "batch" the
boundaries of the batches shift with the share: several kinds can share a forward pass, nothing else.

S_tr and retain are read in shards, which several workers may compute side by side. The shards depend on the
number of samples only, and are added in order: the result does not depend on who computed what.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from ... import __version__
from ...datasets.poisoning import PoisonedData, Share, discovered_count
from ...datasets.views import BATCH_SIZE, View
from ...unlearning.importance import Importance, Kind, estimate_importances
from ...unlearning.kinds import Granularity, Precision
from ..dampening_run import ImportancePair, Progress, silent
from ..settings import HealSettings
from ..store import ANOTHER_VICTIM, VICTIM, ArtifactStore, StoredImportance, row_key

TOGETHER: dict[Kind, tuple[Kind, ...]] = {"fim": ("fim",), "lf": ("lf", "xlf"), "xlf": ("lf", "xlf")}
"""Kinds that one traversal of granularity "sample" gives."""

Keys = dict[Kind, str]

MOST_SHARDS = 32
SHARD_SAMPLES = 4096


class ImportancePart(BaseModel):
    """A large set that importances are computed on, or a shard of it.

    Attributes:
        of: "S_tr" (granularity "sample") or "retain" (granularity "batch").
        share: of "retain", else None.
        kinds: computed in one traversal; for granularity "sample" one of the values of `TOGETHER`.
        granularity: "sample" or "batch".
        precision: see `HealSettings`.
        batch_size: samples per batch.
        shard: its number, from 0, and how many there are; None for the whole, which is put together from
            shards where there are several.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: Literal["S_tr", "retain"]
    share: Share | None = None
    kinds: tuple[Kind, ...]
    granularity: Granularity
    precision: Precision
    batch_size: int
    shard: tuple[int, int] | None = None

    def shards(self, samples: int) -> tuple[ImportancePart, ...]:
        """Return the shards of the whole of so many samples; none where one traversal does."""
        count = shard_count(samples, self.granularity, self.batch_size)
        numbers = range(count) if count > 1 else ()
        return tuple(self.model_copy(update={"shard": (number, count)}) for number in numbers)


def part_for(share: Share, settings: HealSettings, kinds: tuple[Kind, ...] = ()) -> ImportancePart:
    """Return the large set that a method needs at a discovery share.

    ``kinds`` are those to compute beside its own, where the granularity is "batch".

    Args:
        share: the discovery share.
        settings: those of the method.
        kinds: to compute beside its own, with granularity "batch".
    """
    sample = settings.granularity == "sample"
    return ImportancePart(
        of="S_tr" if sample else "retain",
        share=None if sample else share,
        kinds=TOGETHER[settings.kind] if sample else tuple(sorted({settings.kind, *kinds})),
        granularity=settings.granularity,
        precision=settings.precision,
        batch_size=BATCH_SIZE if sample else settings.batch_size,
    )


def shard_count(samples: int, granularity: Granularity, batch_size: int) -> int:
    """Count the shards that so many samples are read in: 1 to `MOST_SHARDS`."""
    units = samples if granularity == "sample" else -(-samples // batch_size)
    return max(1, min(MOST_SHARDS, units, -(-samples // SHARD_SAMPLES)))


def shard_of(samples: int, part: ImportancePart) -> range:
    """Return the positions of a shard in its set; with granularity "batch" whole batches."""
    number, count = part.shard or (0, 1)
    unit = 1 if part.granularity == "sample" else part.batch_size
    units = -(-samples // unit)
    start, stop = (units * edge // count * unit for edge in (number, number + 1))
    return range(start, min(stop, samples))


@dataclass(frozen=True, kw_only=True)
class TimedPair:
    """Importances of S_f and of retain, and the seconds their parts took, whenever that was."""

    pair: ImportancePair
    seconds: float


def piece_bounds(manipulated: int, discovered: int) -> list[int]:
    """Return where pieces of the first ``discovered`` samples of S_m begin and end: 0, 1, tenths of |S_m|.

    The bounds ascend strictly, from 0 to ``discovered``.

    Args:
        manipulated: |S_m|.
        discovered: |S_f|, at most |S_m|.
    """
    tenths = {round(manipulated * tenth / 10) for tenth in range(11)}
    return sorted(bound for bound in tenths | {0, 1, discovered} if bound <= discovered)


class VictimImportances:
    """Importances of one victim on the parts of its training set.

    Args:
        data: the poisoned data.
        victim: gives the model, when something has to be computed.
        key: of the victim in the store.
        store: where importances are kept.
    """

    def __init__(
        self, data: PoisonedData, victim: Callable[[], nn.Module], key: str, store: ArtifactStore
    ) -> None:
        self.data, self.victim, self.key, self.store = data, victim, key, store

    def of(self, share: Share, settings: HealSettings, progress: Progress = silent) -> TimedPair:
        """Return the importances that a method needs at a discovery share, on the device of the data."""
        kind, part = settings.kind, part_for(share, settings)
        forget, seconds = self._of_forget(share, kind, part, progress)
        whole, more = self._loaded(self._prepared(part, progress), kind)
        retain = whole - forget if settings.granularity == "sample" else whole
        return TimedPair(pair=(forget, retain), seconds=seconds + more)

    def prepare(self, part: ImportancePart, progress: Progress = silent) -> float:
        """Make sure that importances of a large set, or of a shard, are in the store; seconds they took.

        A shard of something that is there as a whole is not needed any more; 0 seconds if somebody puts the
        whole together just now.
        """
        found = (self._find(key) for key in self._prepared(part, progress).values())
        return max((float(one.info["seconds"]) for one in found if one), default=0.0)

    def _of_forget(
        self, share: Share, kind: Kind, part: ImportancePart, progress: Progress
    ) -> tuple[Importance, float]:
        """Return the importance of S_f and its seconds.

        With granularity "sample" it is the sum of its pieces, of which one is in memory at a time beside it.
        """
        if part.granularity == "batch":
            found = self._made(["S_f", str(share), part.batch_size], self.data.forget(share), part, progress)
            return self._loaded(found, kind)
        count = discovered_count(self.data.manipulated, share)
        pieces = (
            self._loaded(self._made(["S_m", start, stop], self._piece(start, stop), part, progress), kind)
            for start, stop in pairwise(piece_bounds(self.data.manipulated, count))
        )
        return reduce(lambda sums, piece: (sums[0] + piece[0], sums[1] + piece[1]), pieces)

    def _prepared(self, part: ImportancePart, progress: Progress) -> Keys:
        """Return the keys of a whole or of a shard that are in the store by now."""
        samples = self._samples(part)
        name: list[str | int] = [part.of]
        if part.share is not None:
            name += [str(part.share), part.batch_size]
        if part.shard is not None:
            chosen = samples.select(torch.tensor(shard_of(len(samples), part)))
            whole = self._keys(name, part)
            return self._made([*name, "shard", *part.shard], chosen, part, progress, instead=whole)
        shards = part.shards(len(samples))
        if not shards:
            return self._made(name, samples, part, progress)
        keys = self._keys(name, part)
        with self._making(keys) as missing:
            if missing:
                self._merge(keys, [self._prepared(shard, progress) for shard in shards])
        return keys

    def _merge(self, keys: Keys, shards: Sequence[Keys]) -> None:
        """Put the sum of the shards under ``keys``, and let the shards go."""
        for kind, key in keys.items():
            parts = (self._loaded({kind: shard[kind]}, kind) for shard in shards)
            total, seconds = reduce(lambda sums, one: (sums[0] + one[0], sums[1] + one[1]), parts)
            self.store.put_importance(
                key, total, {**self._of_victim(), "shards": len(shards), "seconds": seconds}
            )
        for key in (key for shard in shards for key in shard.values()):
            self.store.discard_importance(key)

    def _made(
        self,
        name: Sequence[str | int],
        samples: View,
        part: ImportancePart,
        progress: Progress,
        instead: Keys | None = None,
    ) -> Keys:
        """Return the keys of importances on ``samples``, from the store or computed now.

        Where all of ``instead`` are in the store, those.
        """
        keys = self._keys(name, part)
        if instead and not self._missing(instead):
            return instead
        with self._making(keys) as missing:
            if missing and instead and not self._missing(instead):
                return instead  # it was put together from this while another worker held the lock
            if missing:
                self._compute(name, samples.batched(part.batch_size), part, missing, progress)
        return keys

    @contextmanager
    def _making(self, keys: Keys) -> Iterator[Keys]:
        """Yield the ``keys`` that are not in the store; nobody else makes them meanwhile."""
        if not self._missing(keys):
            yield {}
            return
        with ExitStack() as locks:
            for key in sorted(keys.values()):
                locks.enter_context(self.store.making(key))
            yield self._missing(keys)

    def _missing(self, keys: Keys) -> Keys:
        return {kind: key for kind, key in keys.items() if self._find(key) is None}

    def _find(self, key: str) -> StoredImportance | None:
        """Return the importances under ``key``, if they are of the victim that is stored now."""
        found, victim = self.store.find_importance(key), self._victim_checksum()
        if found is None or victim is None or found.info.get(VICTIM) == victim:
            return found
        self.store.refuse("importances", key, ANOTHER_VICTIM)
        return None

    def _of_victim(self) -> dict[str, str]:
        victim = self._victim_checksum()
        return {} if victim is None else {VICTIM: victim}

    def _victim_checksum(self) -> str | None:
        """Return the checksum of the victim; None where it is not of the store."""
        found = self.store.find(self.key)
        return None if found is None else found.checksum

    def _compute(
        self,
        name: Sequence[str | int],
        samples: View,
        part: ImportancePart,
        missing: Keys,
        progress: Progress,
    ) -> None:
        """Compute all kinds, also where a killed process left some of them: alone they round otherwise."""
        start = time.perf_counter()
        found = estimate_importances(
            self.victim(),
            samples,
            kinds=part.kinds if part.granularity == "sample" else tuple(missing),
            granularity=part.granularity,
            precision=part.precision,
            progress=lambda done: progress(f"importance of {name[0]}", done, len(samples)),
        )
        seconds = (time.perf_counter() - start) / (1 if part.granularity == "sample" else len(missing))
        info = {**self._of_victim(), "part": list(name), "kinds": list(missing), "seconds": seconds}
        for kind, key in missing.items():
            self.store.put_importance(key, found[kind], info)

    def _samples(self, part: ImportancePart) -> View:
        return self.data.train() if part.share is None else self.data.retain(part.share)

    def _piece(self, start: int, stop: int) -> View:
        return self.data.train().select(self.data.order[start:stop])

    def _loaded(self, keys: Keys, kind: Kind) -> tuple[Importance, float]:
        found = self.store.importance(keys[kind])
        return Importance.load(found.path, self.data.device), found.info["seconds"]

    def _keys(self, name: Sequence[str | int], part: ImportancePart) -> Keys:
        return {
            kind: row_key(self.key, list(name), kind, part.granularity, part.precision, __version__)
            for kind in part.kinds
        }
