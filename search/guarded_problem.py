"""What a guarded search works on: a ranking of the weights, and the samples that a step is measured on."""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..unlearning.dampening_path import DampeningPath
from ..unlearning.direction import centred, falling
from ..unlearning.importance import Importance
from ..unlearning.inference import logits_and_labels, predict
from ..unlearning.metrics import accuracy
from .engine import DampeningProblem, Evaluation
from .estimating import importance_for
from .guarded import Measures, Probes
from .inputs import Batches, Pair, random_part
from .probe import Probe, Suspicion, draw_probe, suspect, take, together
from .ptn import check_unlearnable
from .settings import HealSettings

FALL, CLEAR = 0.6, 4.0
"""Suspicion is looked for until S_f's logits have fallen by this part, or two groups lie so far apart."""
FIRST = 16
MOST_FOUND = 500
"""Samples of S_f, at most, that suspicion and ranking are computed from."""
MOST_MEASURED = 100
"""Samples of S_f, and of what is suspected beside it, that a step is measured on, at most each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Watched:
    """The samples that a guarded search looks at, as batches that stay in memory.

    Attributes:
        suspected: found poison and what responds like it: a step should change its predictions.
        target, other: retain samples whose predictions it should not change.
        target_rate: how often the first sort occurs among both.
        found: samples of S_f that suspicion was computed from; doubted: those of them not believed to be
            poison.
        suspects: retain samples that are suspected.
        separation, apart: see `Suspicion`.
    """

    suspected: list[Pair]
    target: list[Pair]
    other: list[Pair]
    target_rate: float
    found: int
    doubted: int
    suspects: int
    separation: float
    apart: bool


class GuardedProblem(DampeningProblem):
    """A dampening problem whose steps are counts of ranks, and are measured on found poison and retain.

    Memory beyond that of `DampeningProblem`: the watched images.

    Args:
        victim, forget, forget_importance, retain_importance, dampening_constant, forget_count: as there; the
            importances are the ranking's.
        watched: what a step is measured on.
    """

    def __init__(
        self,
        victim: nn.Module,
        forget: Batches,
        forget_importance: Importance,
        retain_importance: Importance,
        *,
        watched: Watched,
        dampening_constant: float = 1.0,
    ) -> None:
        super().__init__(
            victim,
            forget,
            forget_importance,
            retain_importance,
            dampening_constant=dampening_constant,
            forget_count=len(forget),
        )
        self.watched = watched
        self._measures: dict[tuple[int, tuple[int, ...], bool], Measures] = {}

    @property
    def probes(self) -> Probes:
        """Sizes of what is watched, and the length of the ranking."""
        return Probes(
            suspected=_count(self.watched.suspected),
            target=_count(self.watched.target),
            other=_count(self.watched.other),
            target_rate=self.watched.target_rate,
            limit=self._path.sorted_count if self.watched.apart else 0,
        )

    def measure(self, count: int, left_out: Collection[int], *, flips: bool) -> Measures:
        """Dampen the first ``count`` ranks but ``left_out``, and measure; see `guarded`.

        Args:
            count: ranks, from the first.
            left_out: ranks, from 0.
            flips: whether the retain samples are looked at, too.
        """
        key = (count, tuple(left_out), flips)
        if key not in self._measures:  # a halved step whose first half passes comes back
            self._measures[key] = self._measured_now(count, left_out, flips)
        return self._measures[key]

    def _measured_now(self, count: int, left_out: Collection[int], flips: bool) -> Measures:
        model = self.dampened_to(count, left_out)
        healed = _changed(model, self.watched.suspected)
        if not flips:
            return healed, None, None
        return healed, _changed(model, self.watched.target), _changed(model, self.watched.other)

    def dampened_to(self, count: int, left_out: Collection[int] = ()) -> nn.Module:
        """The working copy with the victim's weights dampened so far; valid until the next call."""
        self._path.move_to_count(count, self._constant, spared=left_out)
        return self._model

    def evaluate_count(self, count: int, left_out: Collection[int]) -> Evaluation:
        """Those weights on all of S_f."""
        alpha = self._path.move_to_count(count, self._constant, spared=left_out)
        accuracy, _ = self._forget_accuracy(None)
        dampened = count - len([rank for rank in left_out if rank < count])
        return Evaluation(alpha=alpha, dampened=dampened, forget_accuracy=accuracy)

    def alpha_of(self, count: int) -> float:
        """The largest alpha that selects the first ``count`` ranks, at least one."""
        return self._path.alpha_of(count)

    def name_of(self, rank: int) -> str:
        """The weight of a rank, such as ``fc.weight[0,25]``."""
        return self._path.name_of(rank)


def guarded_problem(
    victim: nn.Module,
    forget: Batches,
    compared: Batches,
    predicted: Pair,
    pair: tuple[Importance, Importance],
    settings: HealSettings,
) -> GuardedProblem:
    """Raise suspicion with the importances given, then rank the weights again.

    The ranking is I_f / max(I_r, I_t). I_f is over found poison and suspects, but 0 where dampening the
    weight would not make the victim doubt them (first order): such a weight cannot heal. I_t is over the
    unsuspected samples of the target classes: a weight that a whole class depends on is important for it,
    though not for retain as a whole, where most samples are of other classes.

    Args:
        victim: not changed.
        forget: S_f.
        compared: samples of retain that the probe is drawn from.
        predicted: the victim's predictions of them and their labels.
        pair: importances of S_f and of retain.
        settings: of a guarded search.

    Raises:
        NothingToUnlearn: the victim predicts none of `MOST_FOUND` samples of S_f as labelled.
    """
    found = _believed(victim, random_part(forget, MOST_FOUND))
    probe = _probe(found, predicted, settings)
    target = take(compared, probe.target)
    suspicion = _suspicion(victim, found, target, pair, settings.dampening_constant)
    believed = found.select(suspicion.forget.nonzero().flatten())
    suspects = take(compared, probe.target[suspicion.retain])
    clean = take(compared, probe.target[~suspicion.retain])
    watched = Watched(
        suspected=_kept(believed, MOST_MEASURED) + _kept(suspects, MOST_MEASURED),
        target=_kept(clean, settings.probe_other),
        other=_kept(take(compared, probe.other), settings.probe_other),
        target_rate=probe.target_rate,
        found=len(found),
        doubted=int((~suspicion.forget).sum()),
        suspects=int(suspicion.retain.sum()),
        separation=suspicion.separation,
        apart=suspicion.apart,
    )
    sets = (believed, suspects, clean)
    ranking = _ranking(victim, sets, watched.suspected, pair[1], settings) if suspicion.apart else pair
    return GuardedProblem(
        victim, forget, *ranking, watched=watched, dampening_constant=settings.dampening_constant
    )


def _believed(victim: nn.Module, found: Batches) -> Batches:
    """Those that the victim predicts as labelled: the others show nothing, whatever is dampened.

    Raises:
        NothingToUnlearn: there are none.
    """
    predictions, labels = predict(victim, found, "forget set")
    check_unlearnable(accuracy(predictions, labels))
    return found.select((predictions == labels).nonzero().flatten())


def _probe(found: Batches, predicted: Pair, settings: HealSettings) -> Probe:
    predictions, labels = predicted
    targets = torch.cat([y.cpu() for _, y in found]).unique()
    return draw_probe(predictions, labels, targets, target=settings.probe_target, other=settings.probe_other)


def _suspicion(
    victim: nn.Module,
    found: Batches,
    target: Batches | None,
    pair: tuple[Importance, Importance],
    constant: float,
) -> Suspicion:
    """Dampen along the first ranking, and see whose logits fall, for each target where that shows best."""
    ranked = _Ranked(victim, pair, constant)
    samples = [found] if target is None else [found, target]
    labels = [torch.cat([y.cpu() for _, y in one]) for one in samples]
    before = [ranked.logits(one, 0) for one in samples]
    count, best = FIRST, dict[int, Suspicion]()
    while True:
        count = min(count, ranked.limit)
        falls = [own - ranked.logits(one, count) for own, one in zip(before, samples, strict=True)]
        for label in labels[0].unique().tolist():
            own = [fall[ones == label] for fall, ones in zip(falls, labels, strict=True)]
            seen = suspect(own[1] if target is not None else torch.zeros(0), own[0])
            best[label] = max(seen, best.get(label, seen), key=lambda one: (one.apart, one.separation))
        clear = all(one.separation >= CLEAR for one in best.values())
        if clear or falls[0].sum() >= FALL * before[0].sum() or count == ranked.limit:
            return together(best, labels[0], labels[1] if target is not None else torch.zeros(0))
        count *= 4


class _Ranked:
    """A copy of the victim, dampened along a ranking."""

    def __init__(self, victim: nn.Module, pair: tuple[Importance, Importance], constant: float) -> None:
        self._model = copy.deepcopy(victim).requires_grad_(False)
        self._path = DampeningPath(dict(self._model.named_parameters()), *pair)
        self._constant, self.limit = constant, self._path.sorted_count

    def logits(self, samples: Batches, count: int) -> Tensor:
        """Centred logits of the labels, [N], with the first ``count`` ranks dampened."""
        self._path.move_to_count(count, self._constant)
        return centred(*logits_and_labels(self._model, samples))


def _ranking(
    victim: nn.Module,
    sets: tuple[Batches, Batches | None, Batches | None],
    suspected: list[Pair],
    retain: Importance,
    settings: HealSettings,
) -> tuple[Importance, Importance]:
    """Importances whose ratio is the ranking; see `guarded_problem`."""
    believed, suspects, target = sets
    guilty = importance_for(settings, victim, believed)
    if suspects is not None:
        guilty = guilty + importance_for(settings, victim, suspects)
    direction = falling(victim, suspected)
    forget = {name: value * (direction[name] > 0) for name, value in guilty.mean().items()}
    rest = retain.mean()
    if target is not None:
        clean = importance_for(settings, victim, target).mean()
        rest = {name: torch.maximum(value, clean[name]) for name, value in rest.items()}
    return _as_importance(guilty, forget), _as_importance(retain, rest)


def _as_importance(like: Importance, mean: dict[str, Tensor]) -> Importance:
    return replace(like, total=mean, count=1, model=None, data=None)


def _kept(samples: Batches | None, count: int) -> list[Pair]:
    """Up to ``count`` of the samples, drawn at random, in memory."""
    return [] if samples is None else list(random_part(samples, count))


def _count(batches: list[Pair]) -> int:
    return sum(len(y) for _, y in batches)


def _changed(model: nn.Module, batches: list[Pair]) -> float:
    """Share of the samples not predicted as labelled; 0 of none."""
    predictions, labels = predict(model, batches, "probe")
    return float((predictions != labels).double().mean()) if len(labels) else 0.0
