"""Telling samples that respond to dampening as the found poison does from other samples of their class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

ROUNDS = 50
ENOUGH_FOUND, LEAST_RANK = 10, 0.8
"""So many found samples are told apart by how often one of them falls further than one of retain. Fewer
must have company: a lone sample that responds like no other teaches nothing about hidden poison."""
FAR, NEAR, LEAST = 3.0, 2.1, 1.5
"""Distances of two groups of falls, in sums of their standard deviations. One normal group cut in half has
1.3, one exponential 1.4, one uniform 1.7. Of 120 samples of clean models of handwritten digits, each flagged
alone, the upper group of 8 lay 2.1 to 3.0 from the lower one, none further; hidden poison of a fixed patch
lay 1.3 to 8 from the rest."""
DIVERSE, MORE_DIVERSE = 5.0, 1.5
"""Effective number of classes that the upper group is next to, and its ratio to that of the lower group. Of
clean samples, digits and CIFAR-10, it was 4.4 at most where the groups lay `NEAR`, and 4.9 where it was so
much larger than the lower one's; of sine poison 5.1 to 8.9 of 9, of a moving patch on CIFAR-10 5.4."""
LIKE = 0.2
"""How far suspects fall at least, in falls of what they are suspected for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Responses:
    """What a gentle dampening along S_f's importances does to samples.

    Attributes:
        falls: by how much the centred logit of the label falls, [N].
        runners: the class with the largest logit but the label, afterwards, int64 [N].
    """

    falls: Tensor
    runners: Tensor

    def select(self, chosen: Tensor) -> Responses:
        """Return the responses of the samples at positions or of a mask."""
        return Responses(falls=self.falls[chosen], runners=self.runners[chosen])


NOBODY = Responses(falls=torch.zeros(0), runners=torch.zeros(0, dtype=torch.int64))


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


def suspect(retain: Responses, forget: Responses, classes: int, known: float | None = None) -> Suspicion:
    """Tell hidden poison in retain, and clean samples in S_f, from how their logits fall.

    The logit of the label falls for poison that shares the trigger as it does for S_f, and hardly for other
    samples of the class: two groups, found as the two means of all falls (Lloyd's rounds from the least fall
    of retain and the greatest of S_f). And poison was made of images of all classes: what the model would say
    instead differs from sample to sample, while samples of one class resemble a few others. They are two if
        S_f nearly always falls further than retain (`LEAST_RANK`, of at least `ENOUGH_FOUND` samples), or
        the groups lie `FAR` apart, or
        the upper one is `DIVERSE` (with fewer than ten classes: next to six in ten of them, less one) and
        either they lie `NEAR`, or `LEAST` (so far that an exponential would not be cut like this) and it is
        `MORE_DIVERSE` than the lower one.
    And suspects fall at least `LIKE` times as far as those they are suspected for. Otherwise nothing is
    suspected, and all of S_f is believed. The constants are of victims of handwritten digits and CIFAR-10;
    `guarded-digits.md` and `guarded-cifar10.md` of the benchmarks' results say which.

    Args:
        retain: of the probe's target samples, N.
        forget: of S_f, M; `NOBODY`: where only those of retain are left that did not respond like S_f.
        classes: how many the model tells apart.
        known: mean fall of those that suspects should respond like; None: of S_f.
    """
    falls = torch.cat([retain.falls, forget.falls]).double()
    upper = _upper(falls, forget.falls)
    believed = upper[len(retain.falls) :] | _with_company(upper, retain.falls, forget.falls)
    suspected, separation = upper[: len(retain.falls)], _separation(falls, upper)
    alone = len(forget.falls) < ENOUGH_FOUND and not suspected.any()
    nobody = len(believed) and not believed.any()
    unlike = _unlike(retain.falls[suspected], forget.falls[believed], known)
    if not nobody and not alone and not unlike and _are_two(retain, forget, upper, separation, classes):
        return Suspicion(retain=suspected, forget=believed, separation=separation, apart=True)
    nothing, everything = torch.zeros_like(suspected), torch.ones_like(believed)
    return Suspicion(retain=nothing, forget=everything, separation=separation, apart=False)


def together(by_label: Mapping[int, Suspicion], forget: Tensor, retain: Tensor) -> Suspicion:
    """Join the suspicions of several targets: samples are told apart each from their own class.

    Args:
        by_label: a suspicion for each label of S_f.
        forget: the labels of S_f, int64 [M].
        retain: those of the probe's target samples, [N].

    Returns:
        ``apart`` if any of them is; the separation is that of the least. Where some are apart, samples of S_f
        with the label of one that is not are doubted.
    """
    suspected, believed = torch.zeros(len(retain)).bool(), torch.zeros(len(forget)).bool()
    nothing = not any(one.apart for one in by_label.values())
    for label, one in by_label.items():
        suspected[retain == label] = one.retain
        believed[forget == label] = one.forget & (one.apart or nothing)
    return Suspicion(
        retain=suspected,
        forget=believed,
        separation=min(one.separation for one in by_label.values()),
        apart=any(one.apart for one in by_label.values()),
    )


def _upper(falls: Tensor, forget: Tensor) -> Tensor:
    """Tell which falls are nearer to the upper of two means, bool like ``falls``."""
    if not len(falls):
        return torch.zeros(0, dtype=torch.bool)
    highest = torch.quantile(forget.double(), 0.9) if len(forget) else torch.quantile(falls, 0.95)
    low, high = torch.quantile(falls, 0.05), highest
    for _ in range(ROUNDS):
        upper = falls > (low + high) / 2
        if upper.all() or not upper.any():
            return upper
        low, high = falls[~upper].mean(), falls[upper].mean()
    return falls > (low + high) / 2


def _with_company(upper: Tensor, retain: Tensor, forget: Tensor) -> Tensor:
    """Tell which of few found samples fall further than 19 in 20 of the lower group, bool [M].

    The weights that respond to a sample of a large margin move other poison further than the sample itself.
    """
    lower = retain[~upper[: len(retain)]]
    if len(forget) >= ENOUGH_FOUND or len(lower) < ENOUGH_FOUND:
        return torch.zeros(len(forget), dtype=torch.bool)
    return forget > torch.quantile(lower.double(), 0.95)


def _unlike(suspects: Tensor, believed: Tensor, known: float | None) -> bool:
    """Tell whether suspects fall too little, beside those that they should respond like."""
    if not len(suspects):
        return False
    return float(suspects.mean()) < LIKE * (float(believed.mean()) if known is None else known)


def _are_two(retain: Responses, forget: Responses, upper: Tensor, separation: float, classes: int) -> bool:
    if len(forget.falls) >= ENOUGH_FOUND and _rank(retain.falls, forget.falls) >= LEAST_RANK:
        return True
    runners = torch.cat([retain.runners, forget.runners])
    above, below = _diversity(runners[upper]), _diversity(runners[~upper])
    diverse = above >= min(DIVERSE, 0.6 * classes - 1.0)
    more = separation >= LEAST and above >= MORE_DIVERSE * below
    return separation >= FAR or (diverse and (separation >= NEAR or more))


def _diversity(runners: Tensor) -> float:
    """Return the effective number of classes.

    That is 1 over the probability that two samples have the same; 0 of none.
    """
    shares = torch.bincount(runners).double() / max(1, len(runners))
    return float(1.0 / shares.square().sum()) if len(runners) else 0.0


def _rank(retain: Tensor, forget: Tensor) -> float:
    """Return how often a sample of S_f falls further than one of retain; 0 if there is none of retain."""
    return float((forget[:, None] > retain[None, :]).double().mean()) if len(retain) else 0.0


def _separation(falls: Tensor, upper: Tensor) -> float:
    """Return the distance of the means over the sum of the standard deviations.

    A group of one has the other's deviation.
    """
    if upper.all() or not upper.any():
        return 0.0
    groups = (falls[~upper], falls[upper])
    known = [float(group.std()) for group in groups if len(group) > 1]
    spread = sum(known) * (2 / len(known)) if len(known) == 1 else sum(known)
    distance = float(groups[1].mean() - groups[0].mean())
    return distance / spread if spread else float("inf")
