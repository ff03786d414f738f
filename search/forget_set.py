"""S_f as a search measures it: piece by piece, again and again."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext

from torch import Tensor, nn

from ..errors import BadInput
from ..unlearning.dampening import Unchanged, bytes_of
from ..unlearning.inference import Batch
from ..unlearning.memory import room

Batches = Iterable[Batch]

logger = logging.getLogger(__name__)


class ForgetSet:
    """S_f in pieces, kept in memory where it fits, and what is remembered of forward passes over it.

    Iterating gives (x, y) pieces, the same tensors every time if S_f is kept: a copy, so that nothing that is
    done to the batches later plays a part. Otherwise the batches are read anew every time.

    Args:
        batches: (x, y) of S_f.
        model: what is measured; x is kept in its dtype, on its device.
        piece: samples in a piece, at least 1; None: the batches as they are.
        memory: bytes for S_f and the remembered outputs, >= 0; None: what `chunks.room` gives at the first
            reading.

    Raises:
        BadInput: piece or memory out of range.
    """

    def __init__(
        self, batches: Batches, model: nn.Module, *, piece: int | None = None, memory: int | None = None
    ) -> None:
        if piece is not None and piece < 1:
            raise BadInput(f"piece {piece}: give at least one sample per forward pass, or None")
        if memory is not None and memory < 0:
            raise BadInput(f"memory {memory}: give a number of bytes from 0 on, or None")
        self._batches, self._model, self._piece, self._memory = batches, model, piece, memory
        self._read = False
        self._kept: list[Batch] | None = None
        self._fresh: list[int] = []
        self._unchanged: Unchanged | None = None

    def __iter__(self) -> Iterator[Batch]:
        if not self._read:
            self._read_first()
        if self._kept is not None and self._versions() != self._fresh:
            self._let_go("the model writes into its images")
        yield from self._pieces(self._batches) if self._kept is None else self._kept

    @property
    def held_bytes(self) -> int:
        """Count the bytes of the pieces and of what is remembered."""
        kept = [tensor for pair in self._kept or [] for tensor in pair]
        return bytes_of([*kept, *(self._unchanged.tensors if self._unchanged else [])])

    def recalling(self, number: int, changed: Mapping[str, int]) -> AbstractContextManager[None]:
        """Return the context of a forward pass over the piece of that number (from 0).

        See `Unchanged.recalling`.
        """
        return self._unchanged.recalling(number, changed) if self._unchanged else nullcontext()

    def release(self) -> None:
        """Forget all outputs; the pieces stay."""
        if self._unchanged:
            self._unchanged.forget()

    def _read_first(self) -> None:
        weights = next(self._model.parameters())
        allowed = room(weights.device) if self._memory is None else self._memory
        batches = self._copied(weights, allowed)
        self._read = True
        if batches is None:
            return self._let_go(f"it takes more than {allowed} bytes")
        self._kept = list(self._pieces(batches))
        self._fresh = self._versions()
        left = allowed - bytes_of(tensor for pair in batches for tensor in pair)
        sizes = [len(x) for x, _ in batches]
        if sum(sizes):
            sample = batches[sizes.index(max(sizes))][0][:1]
            self._unchanged = Unchanged(self._model, sample, count=sum(sizes), budget=left)

    def _versions(self) -> list[int]:
        """Return the versions of the kept images; -1 where there are none."""
        return [-1 if x.is_inference() else x._version for x, _ in self._kept or []]

    def _let_go(self, why: str) -> None:
        self._kept = self._unchanged = None
        logger.debug("the forget set is read at every measurement: %s", why)

    def _copied(self, weights: Tensor, allowed: int) -> list[Batch] | None:
        """Copy all batches as the model takes them; None if they take more than ``allowed`` bytes."""
        copies: list[Batch] = []
        if not allowed:
            return None
        for x, y in self._batches:
            if not isinstance(x, Tensor) or not isinstance(y, Tensor):
                return None  # refused when it is measured
            where = weights if x.is_floating_point() else weights.device
            allowed -= x.numel() * max(x.element_size(), weights.element_size()) + y.nbytes
            if allowed < 0:
                return None
            copies.append((x.detach().to(where, copy=True), y.detach().clone()))
        return copies

    def _pieces(self, batches: Batches) -> Batches:
        for x, y in batches:
            size = self._piece or max(1, len(y))
            yield from zip(x.split(size), y.split(size), strict=True)
