"""Signs that one set was preprocessed otherwise than retain, read off the values of the images alone.

A strong trigger is believed at any scale, so that the model's predictions do not tell. What values prove
is refused; where images themselves may explain it there is a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...datasets.views import View
from ...errors import BadInput
from .batches import Batches, random_part

log = logging.getLogger(__name__)

LOOKED_AT = 128
MOST_VALUES = 1 << 24
"""Values of the images of a set that are looked at, at most (64 MiB)."""
SORTED = 1 << 18
"""Values of a channel that quantiles are taken of, at most."""
LEVELS = 16
"""Distinct values that images have at least if they are to prove anything; flat ones have fewer."""
FEW, SOME = 5, 16
"""Images of a found set, and of retain, below which the bounds of their values say little."""
SLACK = 0.25
"""So far beyond [0, 1] a trigger may move pixels that nobody clips."""
CLOSE = 0.02
WIDER, BEYOND = 1.5, 0.5
"""The bulk of a set's values in widths of retain's whole range, and by how many it leaves that."""
NARROWER = 0.02


@dataclass(frozen=True, kw_only=True)
class Values:
    """What values the images of a set have; tensors are float64 [channels].

    Attributes:
        count: images looked at.
        least, most: bounds of all values.
        low, high: of all but a twentieth at each end, which a patch may be.
        bottom, top: of all but a hundredth at each end.
        levels: distinct values, at least, of the channel with the fewest.
        eight_bit: whether most are multiples of 1/255, and neighbouring ones.
    """

    count: int
    least: Tensor
    most: Tensor
    low: Tensor
    high: Tensor
    bottom: Tensor
    top: Tensor
    levels: int
    eight_bit: bool

    @property
    def unit(self) -> bool:
        """Tell whether all values lie in [0, 1]."""
        return bool((self.least >= -1e-6).all() and (self.most <= 1 + 1e-6).all())

    @property
    def filled(self) -> bool:
        """Tell whether the values lie in [0, 1] and reach both ends."""
        return self.unit and bool((self.least <= CLOSE).all() and (self.most >= 1 - CLOSE).all())

    @property
    def width(self) -> Tensor:
        """Return how far apart the bounds of the values are, by channel."""
        return self.most - self.least


def check_alike(sets: Mapping[str, Batches]) -> tuple[str, ...]:
    """Compare the values of all sets with those of the "retain set".

    Args:
        sets: what the sets are called in error messages -> their batches.

    Returns:
        What is in doubt; it is logged, too.

    Raises:
        BadInput: a set was normalised or scaled otherwise than retain; names the ranges of both.
    """
    doubts: list[str] = []
    reference = values_of(sets["retain set"])
    for name, samples in sets.items():
        if name == "retain set":
            continue
        _check_normalisations(name, samples, sets["retain set"])
        own = values_of(samples)
        if reference is None or own is None or own.least.shape != reference.least.shape:
            continue
        differ = differently(own, reference)
        if differ is not None:
            doubts.append(_judged(name, own, reference, certain=differ))
    return tuple(doubts)


def differently(own: Values, retain: Values) -> bool | None:
    """Tell whether two sets were preprocessed differently: True for certain, False perhaps, or None.

    It is None where there is no sign of that.
    """
    if own.levels < LEVELS or retain.levels < LEVELS or retain.count < SOME:
        return None
    signs = [_pixels_here(own, retain), _pixels_there(own, retain), _wider(own, retain)]
    if own.count >= FEW and bool((own.width < NARROWER * retain.width).all()):
        signs.append(False)
    found = [one for one in signs if one is not None]
    return any(found) if found else None


def _pixels_here(own: Values, retain: Values) -> bool | None:
    """Tell whether a set is of pixels in [0, 1] and retain's values go clearly beyond; None: no sign."""
    beyond = ((retain.bottom < -SLACK) | (retain.top > 1 + SLACK)) & (retain.width >= 1 + SLACK)
    if not own.unit or not bool(beyond.any()):
        return None
    if own.eight_bit:
        return True
    if own.count < FEW:
        return None
    gaps = torch.minimum((own.least - retain.least).abs(), (own.most - retain.most).abs())
    # bright images end where all of them do
    return own.filled and bool((gaps > 0.05 * retain.width).all())


def _pixels_there(own: Values, retain: Values) -> bool | None:
    """Tell whether retain is of pixels in [0, 1] and the set's values go clearly beyond; None: no sign."""
    if not retain.unit or not (retain.eight_bit or retain.filled):
        return None
    slack = SLACK if retain.eight_bit else BEYOND
    return True if bool(((own.low < -slack) | (own.high > 1 + slack)).any()) else None


def _wider(own: Values, retain: Values) -> bool | None:
    """Tell whether values leave retain's range and spread wider: normalised twice, never divided."""
    if _leaves(own.low, own.high, retain):
        return True
    return False if _leaves(own.least, own.most, retain) else None


def _leaves(low: Tensor, high: Tensor, retain: Values) -> bool:
    spread = high - low >= WIDER * retain.width
    outside = torch.maximum(retain.least - low, high - retain.most) > BEYOND * retain.width
    return bool((spread & outside).all())


def _check_normalisations(name: str, samples: Batches, retain: Batches) -> None:
    """Refuse Views, which know how they are normalised, that differ in it."""
    if not isinstance(samples, View) or not isinstance(retain, View):
        return
    own, other = ((one.mean, one.std) for one in (samples, retain))
    if len(own[0]) == len(other[0]) and not torch.allclose(
        torch.tensor(own), torch.tensor(other), rtol=CLOSE, atol=CLOSE
    ):
        raise BadInput(
            f"{name}: it is normalised with mean {_shown(own[0])} and std {_shown(own[1])}, and the retain "
            f"set with mean {_shown(other[0])} and std {_shown(other[1])}; {_REMEDY}"
        )


_REMEDY = (
    "preprocess all sets alike, as in training (load_sets of theriac.datasets.local reads all with one "
    "mean=... and std=...)"
)


def _judged(name: str, own: Values, retain: Values, *, certain: bool) -> str:
    ranges = f"{name}: its values go from {_range(own)}, and those of the retain set from {_range(retain)}"
    if certain:
        raise BadInput(f"{ranges}, so the two were not normalised or scaled alike; {_REMEDY}")
    doubt = (
        f"{ranges}; if the two were not normalised or scaled alike, {_REMEDY}; going on, as the images "
        f"themselves may differ"
    )
    log.warning("%s", doubt)
    return doubt


def _range(values: Values) -> str:
    return f"{float(values.least.min()):.3g} to {float(values.most.max()):.3g}"


def _shown(numbers: Iterable[float]) -> str:
    return "(" + ", ".join(f"{number:.3g}" for number in numbers) + ")"


def values_of(samples: Batches) -> Values | None:
    """Take the values of some images, drawn at random; None where they are no finite real numbers."""
    x, _ = next(iter(samples))
    fitting = max(1, MOST_VALUES // max(1, x[0].numel()))
    images = [x for x, _ in random_part(samples, min(LOOKED_AT, fitting))]
    if len({one.shape[1] if one.ndim > 1 else 1 for one in images}) > 1:
        return None
    channels = torch.cat([_by_channel(one.cpu()) for one in images], dim=1)
    if not channels.numel() or not bool(torch.isfinite(channels).all()):
        return None
    some = channels[:, :: -(-channels.shape[1] // SORTED)].sort(dim=1).values
    edges = [some[:, round(share * (some.shape[1] - 1))] for share in (0.05, 0.95, 0.01, 0.99)]
    return Values(
        count=sum(map(len, images)),
        least=channels.amin(1),
        most=channels.amax(1),
        low=edges[0],
        high=edges[1],
        bottom=edges[2],
        top=edges[3],
        levels=min(1 + int((one.diff() > 0).sum()) for one in some),
        eight_bit=all(_eight_bit(one) for one in some),
    )


def _by_channel(x: Tensor) -> Tensor:
    """Turn images [N, ...] to values [channels, N ...], in one where the second axis holds no channels."""
    x = x.double()
    return x.transpose(0, 1).flatten(1) if x.ndim == 4 and x.shape[1] <= 4 else x.reshape(1, -1)


def _eight_bit(values: Tensor) -> bool:
    """Tell whether most values in (0, 1) are multiples of 1/255, and such as one pixel value apart.

    Normalised ones may be multiples as well (mean and std 0.5), but not neighbouring ones.
    """
    inner = 255 * values[(values > 1e-6) & (values < 1 - 1e-6)]
    on_grid = inner[(inner - inner.round()).abs() < 0.01]
    if not len(on_grid) or len(on_grid) < len(inner) / 2:
        return False
    present = torch.bincount(on_grid.round().long(), minlength=256) > 0
    neighbours = int((present[1:] & present[:-1]).sum())
    return int(present.sum()) >= LEVELS and neighbours >= int(present.sum()) / 4
