"""The samples of retain that a guarded search watches, and which of them behave like the found poison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .inputs import Batches

ROUNDS = 50
LEAST_SEPARATION = 2.1
"""Distance of two groups of responses, in sums of their standard deviations, from which they are two. One
normal group cut in half has 1.3, one exponential 1.4, one uniform 1.7; hidden poison and the rest had 3.3 to
4.9 on victims of a fixed patch."""
ENOUGH_FOUND, LEAST_RANK = 10, 0.95
"""So many found samples are also told apart by how often one of them falls further than one of retain: 0.97
on a victim that a moving patch fools one time in three, where the groups lie 1.8 apart."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probe:
    """Samples of retain that the victim predicts as labelled; int64 positions in the part that is compared.

    Attributes:
        target: of those labelled with a label of S_f, drawn at random.
        other: of all others, likewise.
        target_rate: how often the first sort occurs among both, in [0, 1].
    """

    target: Tensor
    other: Tensor
    target_rate: float


def draw_probe(predictions: Tensor, labels: Tensor, targets: Tensor, *, target: int, other: int) -> Probe:
    """A probe; always the same one of the same data.

    Args:
        predictions: the victim's, int64 [N].
        labels: as given, int64 [N].
        targets: the labels that occur in S_f, int64.
        target: samples of the first sort, at most.
        other: of the second, at most.
    """
    believed, own = predictions == labels, torch.isin(labels, targets)
    first, second = ((believed & sort).nonzero().flatten() for sort in (own, ~own))
    total = len(first) + len(second)
    return Probe(
        target=_drawn(first, target),
        other=_drawn(second, other),
        target_rate=len(first) / total if total else 0.0,
    )


def _drawn(positions: Tensor, count: int) -> Tensor:
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(0))
    return positions[order[:count].sort().values]


def take(samples: Batches, positions: Tensor) -> Batches | None:
    """Those samples; None if there are none."""
    return samples.select(positions) if len(positions) else None


@dataclass(frozen=True, kw_only=True, eq=False)
class Suspicion:
    """Which samples respond to dampening as the found poison does.

    Attributes:
        retain: bool [N], of the probe's target samples.
        forget: bool [M], of S_f: those that are not believed to be poison are False.
        separation: of the two groups; 0 where there is only one.
        apart: whether they are two: otherwise nothing tells S_f from other samples of its class.
    """

    retain: Tensor
    forget: Tensor
    separation: float
    apart: bool


def suspect(retain: Tensor, forget: Tensor) -> Suspicion:
    """Tell hidden poison in retain, and clean samples in S_f, from how their logits fall.

    At the first, gentle dampening along S_f's importances the logit of the label falls for poison that shares
    the trigger as it does for S_f, and hardly for other samples of the class: two groups, found as the two
    means of all falls (Lloyd's rounds from the least fall of retain and the greatest of S_f). They must lie
    `LEAST_SEPARATION` apart, or S_f must fall further than retain nearly always (`LEAST_RANK`); where neither
    holds nothing is suspected, and all of S_f is believed.

    Args:
        retain: falls of the probe's target samples, [N].
        forget: falls of S_f, [M], at least one.
    """
    falls = torch.cat([retain, forget]).double()
    low, high = torch.quantile(falls, 0.05), torch.quantile(forget.double(), 0.9)
    for _ in range(ROUNDS):
        upper = falls > (low + high) / 2
        if upper.all() or not upper.any():
            break
        low, high = falls[~upper].mean(), falls[upper].mean()
    upper = falls > (low + high) / 2
    separation = _separation(falls, upper)
    found = upper[len(retain) :]
    ranked = len(forget) >= ENOUGH_FOUND and _rank(retain, forget) >= LEAST_RANK
    if not found.any() or not (separation >= LEAST_SEPARATION or ranked):
        nothing, everything = torch.zeros(len(retain)).bool(), torch.ones(len(forget)).bool()
        return Suspicion(retain=nothing, forget=everything, separation=separation, apart=False)
    return Suspicion(retain=upper[: len(retain)], forget=found, separation=separation, apart=True)


def together(by_label: Mapping[int, Suspicion], forget: Tensor, retain: Tensor) -> Suspicion:
    """The suspicions of several targets as one: their samples are told apart each from their own class.

    Args:
        by_label: a suspicion for each label of S_f.
        forget: the labels of S_f, int64 [M].
        retain: those of the probe's target samples, [N].

    Returns:
        ``apart`` if any of them is; the separation is that of the least.
    """
    suspected, believed = torch.zeros(len(retain)).bool(), torch.zeros(len(forget)).bool()
    for label, one in by_label.items():
        suspected[retain == label], believed[forget == label] = one.retain, one.forget
    return Suspicion(
        retain=suspected,
        forget=believed,
        separation=min(one.separation for one in by_label.values()),
        apart=any(one.apart for one in by_label.values()),
    )


def _rank(retain: Tensor, forget: Tensor) -> float:
    """How often a sample of S_f falls further than one of retain; 0 if there is none of retain."""
    return float((forget[:, None] > retain[None, :]).double().mean()) if len(retain) else 0.0


def _separation(falls: Tensor, upper: Tensor) -> float:
    """Distance of the means over the sum of the standard deviations; a group of one has the other's."""
    if upper.all() or not upper.any():
        return 0.0
    groups = (falls[~upper], falls[upper])
    known = [float(group.std()) for group in groups if len(group) > 1]
    spread = sum(known) * (2 / len(known)) if len(known) == 1 else sum(known)
    distance = float(groups[1].mean() - groups[0].mean())
    return distance / spread if spread else float("inf")
