"""Dampening at one alpha after another: only the weights between two alphas are touched.

Three facts make a step of a search cheap. Only the parameters with the largest ratios r = I_f / I_r are ever
selected, so only those are sorted. The factor min(lambda / r, 1) does not depend on alpha, so a smaller alpha
only adds parameters. And whether a parameter is selected, I_f > alpha * I_r in float32, is monotone in alpha,
so every parameter has a largest alpha that still selects it; sorted by that, each alpha is a position.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import BadInput
from .rule import (
    NO_FINITE_RATIO,
    Importances,
    check_match,
    check_settings,
    checked_means,
    interpolated,
    percentile_place,
    shrinking,
    within_float32,
)

FloatArray = np.ndarray[tuple[int], np.dtype[np.float32]]

SORTED_SHARE = 1 / 32
LEAST_SORTED = 1024
FEW = 4096
"""Up to so many weights a step's parameters are looked up; more of them lie in nearly all parameters."""


class DampeningPath:
    """The weights of a model, moved from one selection threshold to another.

    Every weight is bit for bit what `dampen` gives, and every alpha what `Ratios.alpha_at` gives.

    Args:
        parameters: name -> parameters; their storage is replaced by views of one flat buffer per dtype and
            device, in which they are dampened from then on. They start as they are.
        forget_importance: of S_f, per parameter, >= 0; taken in float32, checked once, here.
        retain_importance: of retain, likewise.
        share: the part of the parameters that is sorted at first, in (0, 1]. It grows, at least twofold, when
            an alpha asks for more.

    Memory, for N float32 parameters of which k are sorted: 4 N bytes for the buffer (it takes the place of
    the parameters' own storage), 8 N for the two importances (a growing part needs them) and 20 k for what is
    sorted (up to 36 k with several buffers). Building and growing pass through another 8 N. See `held_bytes`.

    Attributes:
        changed: name of a parameter -> a number that grows with every step that may have changed it; those
            that no step has touched are not in it. A parameter's own version does not tell: the flat buffer
            is what is written to.

    Raises:
        BadInput: importances that do not match the parameters, are negative or not finite, or no finite
            ratio.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        forget_importance: Importances,
        retain_importance: Importances,
        *,
        share: float = SORTED_SHARE,
    ) -> None:
        order = _grouped(parameters)
        self._forget = _flat(parameters, forget_importance, order)
        self._retain = _flat(parameters, retain_importance, order).to(self._forget.device)
        self._buffers = _buffers(parameters, order)
        self._names = [name for names in order for name in names]
        self._shapes = [tuple(parameters[name].shape) for name in self._names]
        sizes = torch.tensor([parameters[name].numel() for name in self._names])
        self._ends = sizes.cumsum(0).to(self._forget.device)
        self.changed: dict[str, int] = {}
        self._changes = 0
        self._position = 0
        self._constant = 1.0
        self._spared: tuple[int, ...] = ()
        ratios = _ratios(self._forget, self._retain)
        self.infinite = int(torch.isinf(ratios).sum())
        self.finite = int((ratios >= 0).sum()) - self.infinite
        if not self.finite:
            raise BadInput(NO_FINITE_RATIO)
        self._sort(ratios, self.infinite + max(LEAST_SORTED, math.ceil(share * self.finite)))

    @property
    def count(self) -> int:
        """Count the parameters."""
        return len(self._forget)

    @property
    def sorted_count(self) -> int:
        """Count the parameters that are sorted so far."""
        return len(self._part.index)

    @property
    def held_bytes(self) -> int:
        """Count the bytes of all tensors and arrays held, the parameters included."""
        tensors = [self._forget, self._retain, self._part.index]
        tensors += [tensor for buffer in self._buffers for tensor in buffer.tensors()]
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
        return sum(storages.values()) + self._part.ratios.nbytes + self._part.thresholds.nbytes

    def alpha_at(self, percentile: float) -> float:
        """Look up alpha for a percentile in [0, 100]; see `Ratios.alpha_at`.

        Raises:
            BadInput: percentile out of range.
        """
        below, above, weight = percentile_place(self.finite, percentile)
        if self.finite - below > len(self._part.ratios):
            self._grow(self.infinite + self.finite - below)
        hidden = self.finite - len(self._part.ratios)
        return interpolated(self._part.ratios[below - hidden], self._part.ratios[above - hidden], weight)

    def selected(self, alpha: float) -> int:
        """Count the parameters that have I_f > alpha * I_r.

        Raises:
            BadInput: alpha is not finite or below 0.
        """
        check_settings(alpha, 1.0)
        bound = np.float32(within_float32(alpha))
        if not self._part.covers(bound):
            ratios = _ratios(self._forget, self._retain)
            self._grow(int((ratios >= float(bound)).sum()) + 1, ratios)
        return int(np.searchsorted(self._part.thresholds, -bound, side="right"))

    def move_to(self, alpha: float, dampening_constant: float = 1.0) -> int:
        """Dampen at alpha, from wherever the weights are; returns the number of parameters selected.

        It costs in proportion to the parameters selected by only one of the two alphas; all selected ones are
        written again if the dampening constant (lambda) is another one than before.

        Args:
            alpha: the selection threshold, at least 0.
            dampening_constant: lambda, above 0.

        Raises:
            BadInput: alpha or lambda out of range.
        """
        check_settings(alpha, dampening_constant)
        position = self.selected(alpha)
        if dampening_constant != self._constant or self._spared:
            self._restore(position, self._position)
            self._position, self._constant, self._spared = 0, dampening_constant, ()
        self._restore(position, self._position)
        self._dampen(self._position, position)
        self._position = position
        return position

    def move_to_count(
        self, count: int, dampening_constant: float = 1.0, *, spared: Collection[int] = ()
    ) -> float:
        """Dampen the ``count`` weights with the largest ratios but those ``spared``; returns alpha.

        Args:
            count: at most `sorted_count`.
            dampening_constant: lambda.
            spared: ranks, from 0, of weights that keep their values.

        Returns:
            `alpha_of` the count: with equal ratios it may select more.

        Raises:
            BadInput: count or lambda out of range.
        """
        if not 0 <= count <= self.sorted_count:
            raise BadInput(f"{count} weights: give a number from 0 to {self.sorted_count}, those sorted")
        alpha = self.alpha_of(max(count, 1))
        check_settings(alpha, dampening_constant)
        self.restore()
        self._constant, self._spared = dampening_constant, tuple(sorted(set(spared)))
        self._dampen_first(count)
        return alpha

    def alpha_of(self, count: int) -> float:
        """Return the largest alpha that selects the ``count`` weights of the largest ratios, at least 1.

        0 if the ratio of some of them is 0: no alpha selects those, and dampening leaves them as they are.
        """
        return max(0.0, float(-self._part.thresholds[count - 1]))

    def name_of(self, rank: int) -> str:
        """Name the weight of a rank, from 0, such as ``fc.weight[0,25]``."""
        place = int(self._part.index[rank])
        owner = int(torch.bucketize(self._part.index[rank], self._ends, right=True))
        within = place - (int(self._ends[owner - 1]) if owner else 0)
        indices = ",".join(str(int(i)) for i in np.unravel_index(within, self._shapes[owner]))
        return f"{self._names[owner]}[{indices}]"

    def restore(self) -> None:
        """Give all weights back the values they had at first."""
        self._restore(0, self._position)
        self._position = 0

    @torch.no_grad()
    def _restore(self, start: int, stop: int) -> None:
        if start < stop:
            self._note(start, stop)
            for buffer in self._buffers:
                buffer.restore(start, stop)

    @torch.no_grad()
    def _dampen(self, start: int, stop: int) -> None:
        if start < stop:
            self._note(start, stop)
            index = self._part.index[start:stop]
            forget, retain = self._forget.index_select(0, index), self._retain.index_select(0, index)
            factor = shrinking(forget, retain, self._constant)
            for buffer in self._buffers:
                buffer.scale(start, stop, factor)

    def _dampen_first(self, count: int) -> None:
        """Dampen the first ``count`` but those spared; all must have their first values."""
        start = 0
        for rank in (*(rank for rank in self._spared if rank < count), count):
            self._dampen(start, rank)
            start = rank + 1
        self._position = count

    def _note(self, start: int, stop: int) -> None:
        """Note that the parameters of the weights at positions [start, stop) change now."""
        self._changes += 1
        places = range(len(self._names))
        if stop - start <= FEW:
            owners = torch.bucketize(self._part.index[start:stop], self._ends, right=True)
            places = owners.unique().tolist()
        self.changed.update((self._names[place], self._changes) for place in places)

    def _grow(self, wanted: int, ratios: Tensor | None = None) -> None:
        """Sort ``wanted`` parameters, or twice as many as now; the weights stay where they are."""
        position = self._position
        self.restore()
        ratios = _ratios(self._forget, self._retain) if ratios is None else ratios
        self._sort(ratios, max(wanted, 2 * self.sorted_count))
        self._dampen_first(position)

    def _sort(self, ratios: Tensor, wanted: int) -> None:
        self._part = _top(ratios, min(wanted, self.infinite + self.finite), self._forget, self._retain)
        for buffer in self._buffers:
            buffer.follow(self._part.index, alone=len(self._buffers) == 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Part:
    """The parameters with the largest ratios; with one of them come all that have the same ratio.

    Attributes:
        ratios: the finite ones, ascending.
        smallest: ratio.
        whole: whether every parameter with a ratio is in it.
        thresholds: minus the largest float32 alpha that selects the parameter, ascending; 1 where none does.
        index: their places in the flat vector, int64, in the order of the thresholds.
    """

    ratios: FloatArray
    smallest: float
    whole: bool
    thresholds: FloatArray
    index: Tensor

    def covers(self, alpha: np.float32) -> bool:
        """Tell whether no parameter outside can be selected: that needs a (rounded) ratio >= alpha."""
        return self.whole or float(alpha) >= self.smallest


class _Buffer:
    """Parameters of one dtype on one device, in one flat tensor of which they are views.

    Args:
        parameters: they get the buffer's storage.
        start: the place of the first one's first weight in the flat vector of all parameters.
    """

    def __init__(self, parameters: Iterable[Tensor], start: int) -> None:
        parameters = list(parameters)
        self._start = start
        self._values = torch.cat([p.detach().reshape(-1) for p in parameters])
        begin = 0
        for parameter in parameters:
            view = self._values[begin : begin + parameter.numel()].view(parameter.shape)
            parameter.data = view
            begin += parameter.numel()

    def tensors(self) -> list[Tensor]:
        """Return all tensors that it holds."""
        ranks = [] if self._ranks is None else [self._ranks]
        return [self._values, self._places, self._originals, *ranks]

    def follow(self, index: Tensor, *, alone: bool) -> None:
        """Note which weights ``index`` (places in the flat vector) means; they must have their first values.

        Args:
            index: int64 [k].
            alone: there is no other buffer, so all of the index are weights of this one.
        """
        self._ranks: Tensor | None = None
        places = index - self._start if self._start else index
        if not alone:
            self._ranks = ((places >= 0) & (places < len(self._values))).nonzero().flatten()
            places = places[self._ranks]
        self._places = places.to(self._values.device)
        self._originals = self._values.index_select(0, self._places)

    def restore(self, start: int, stop: int) -> None:
        """Give the weights at positions [start, stop) of the index their first values."""
        own = self._own(start, stop)
        self._values.index_copy_(0, self._places[own], self._originals[own])

    def scale(self, start: int, stop: int, factor: Tensor) -> None:
        """Set parameters to factor (float32 [stop - start]) times their first values, rounded once."""
        own = self._own(start, stop)
        if self._ranks is not None:
            factor = factor[self._ranks[own] - start]
        scaled = self._originals[own] * factor.to(self._values.device)
        self._values.index_copy_(0, self._places[own], scaled.to(self._values.dtype))

    def _own(self, start: int, stop: int) -> slice:
        if self._ranks is None:
            return slice(start, stop)
        ends = torch.tensor([start, stop], device=self._ranks.device)
        first, last = torch.searchsorted(self._ranks, ends).tolist()
        return slice(first, last)


def _grouped(parameters: Mapping[str, Tensor]) -> list[list[str]]:
    """Group names by dtype and device; the flat vector of all parameters follows this order."""
    groups: dict[tuple[torch.dtype, torch.device], list[str]] = {}
    for name, parameter in parameters.items():
        groups.setdefault((parameter.dtype, parameter.device), []).append(name)
    return list(groups.values())


def _buffers(parameters: Mapping[str, Tensor], order: list[list[str]]) -> list[_Buffer]:
    buffers, start = [], 0
    for names in order:
        buffers.append(_Buffer((parameters[name] for name in names), start))
        start += sum(parameters[name].numel() for name in names)
    return buffers


def _flat(parameters: Mapping[str, Tensor], importance: Importances, order: list[list[str]]) -> Tensor:
    """Return all importances in one float32 vector."""
    means = checked_means(importance)
    check_match(parameters, means)
    flat = torch.cat([means[name].reshape(-1).float() for names in order for name in names])
    return flat.cpu() if flat.device.type == "mps" else flat  # thresholds need float64


def _ratios(forget: Tensor, retain: Tensor) -> Tensor:
    """Divide I_f / I_r: infinite for x/0, and -1 for 0/0, which is below all others."""
    ratios = forget / retain
    return ratios.masked_fill_(ratios.isnan(), -1.0)


def _top(ratios: Tensor, wanted: int, forget: Tensor, retain: Tensor) -> _Part:
    """Return the ``wanted`` largest ratios, and those equal to the smallest of them."""
    smallest = _kth_largest(ratios, wanted)
    index = (ratios >= smallest).nonzero().flatten()
    top = ratios[index]
    thresholds, order = _negative_thresholds(forget[index], retain[index]).sort(stable=True)
    return _Part(
        ratios=np.sort(top[top.isfinite()].cpu().numpy()),
        smallest=smallest,
        whole=wanted >= int((ratios >= 0).sum()),
        thresholds=thresholds.cpu().numpy(),
        index=index[order],
    )


def _kth_largest(values: Tensor, k: int) -> float:
    """Find the k-th largest value; numpy's partition needs 4 bytes a value, torch.topk 16 and more time."""
    if values.device.type == "cpu":
        return float(np.partition(values.numpy(), len(values) - k)[len(values) - k])
    return float(values.topk(k, sorted=False).values.min())


def _negative_thresholds(forget: Tensor, retain: Tensor) -> Tensor:
    """Return minus the largest float32 alpha with forget > alpha * retain, the product rounded to float32.

    That product stays below ``forget`` as long as alpha * retain lies below the middle between ``forget`` and
    the float32 before it (or on it, if ties round down). The quotient may be rounded up, or be such a tie;
    then it is the float32 before. 1 where forget is 0.
    """
    zero = torch.zeros_like(forget)
    middle = (forget.double() + torch.nextafter(forget, zero).double()) / 2
    largest = (middle / retain.double()).float()
    before = torch.nextafter(largest, zero)
    largest = torch.where(forget > largest * retain, largest, before)
    return torch.where(forget > 0, -largest, 1.0)
