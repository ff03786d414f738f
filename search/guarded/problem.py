"""What a guarded search works on: a ranking of the weights, and the samples that a step is measured on."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

from ...unlearning.importance import Importance
from ...unlearning.inference import Batch, Predicted, predict
from ...unlearning.kinds import Precision
from ...unlearning.metrics import accuracy
from ...unlearning.precision import Arithmetic
from ..dampening_problem import DampeningProblem, Evaluation
from ..given import Batches, random_part
from ..threshold import check_unlearnable
from .bystanders import Bystanders, Watched, kept, nudged, right
from .machine import Measures, Probes
from .probe import Probe, draw_probe, take
from .ranking import Accused, rank
from .responses import look_for_suspects
from .settings import MOST_FOUND, GuardedFields


class GuardedProblem(DampeningProblem):
    """A dampening problem whose steps are counts of ranks, and are measured on found poison and retain.

    Memory beyond that of `DampeningProblem`: the watched images.

    Args:
        victim, forget, forget_importance, retain_importance, dampening_constant, forget_count: as there; the
            importances are the ranking's.
        watched: what a step is measured on.
        precision: of the passes that measure a step.
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
        precision: Precision = "float32",
    ) -> None:
        super().__init__(
            victim,
            forget,
            forget_importance,
            retain_importance,
            dampening_constant=dampening_constant,
            forget_count=len(forget),
        )
        self.watched, self._arithmetic = watched, Arithmetic(precision)
        self._target, self._other = (
            Bystanders(self._model, batches, self._arithmetic) for batches in (watched.target, watched.other)
        )
        self._measures: dict[tuple[int, tuple[int, ...], bool], Measures] = {}

    @property
    def probes(self) -> Probes:
        """Return the sizes of what is watched, and the length of the ranking."""
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
        healed = 1.0 - float(right(model, self.watched.suspected, self._arithmetic).double().mean())
        if not flips:
            return healed, None, None, None
        target, other = self._target.change(model), self._other.change(model)
        rate = self.watched.target_rate
        lost = rate * target.lost + (1.0 - rate) * other.lost
        return healed, target.flips, other.flips, max(0.0, lost)

    def dampened_to(self, count: int, left_out: Collection[int] = ()) -> nn.Module:
        """Return the working copy with the victim's weights dampened so far; valid until the next call."""
        self._path.move_to_count(count, self._constant, spared=left_out)
        return self._model

    def evaluate_count(self, count: int, left_out: Collection[int]) -> Evaluation:
        """Evaluate the dampening of the first ``count`` ranks on all of S_f."""
        alpha = self._path.move_to_count(count, self._constant, spared=left_out)
        accuracy, _ = self._forget_accuracy(None)
        dampened = count - len([rank for rank in left_out if rank < count])
        return Evaluation(alpha=alpha, dampened=dampened, forget_accuracy=accuracy)

    def alpha_of(self, count: int) -> float:
        """Return the largest alpha that selects the first ``count`` ranks, at least one."""
        return self._path.alpha_of(count)

    def name_of(self, rank: int) -> str:
        """Name the weight of a rank, such as ``fc.weight[0,25]``."""
        return self._path.name_of(rank)


def guarded_problem(
    victim: nn.Module,
    forget: Batches,
    compared: Batches,
    predicted: Predicted,
    pair: tuple[Importance, Importance],
    settings: GuardedFields,
) -> GuardedProblem:
    """Raise suspicion with the importances given, then rank the weights again; see `rank`.

    Where nothing tells the found poison from other samples of its class there is nothing to rank by.

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
    target, arithmetic = take(compared, probe.target), Arithmetic(settings.precision_of_probes)
    suspicion = look_for_suspects(victim, found, target, pair, settings.dampening_constant, arithmetic)
    believed = found.select(suspicion.forget.nonzero().flatten())
    accused = Accused(believed=believed, target=target, suspected=suspicion.retain)
    if suspicion.apart:
        accused, pair = rank(victim, accused, pair[1], settings)
    others = take(compared, probe.other)
    watched = Watched(
        suspected=accused.watched(arithmetic),
        target=nudged(victim, kept(accused.clean, settings.probe_other, arithmetic), arithmetic),
        other=nudged(victim, kept(others, settings.probe_other, arithmetic), arithmetic),
        target_rate=probe.target_rate,
        found=len(found),
        doubted=int((~suspicion.forget).sum()),
        suspects=int(accused.suspected.sum()),
        looked_at=len(accused.suspected),
        separation=suspicion.separation,
        apart=suspicion.apart,
    )
    return GuardedProblem(
        victim,
        forget,
        *pair,
        watched=watched,
        dampening_constant=settings.dampening_constant,
        precision=settings.precision_of_probes,
    )


def _believed(victim: nn.Module, found: Batches) -> Batches:
    """Select the samples that the victim predicts as labelled: others show nothing, however dampened.

    Raises:
        NothingToUnlearn: there are none.
    """
    predictions, labels = predict(victim, found, "forget set")
    check_unlearnable(accuracy(predictions, labels))
    return found.select((predictions == labels).nonzero().flatten())


def _probe(found: Batches, predicted: Predicted, settings: GuardedFields) -> Probe:
    predictions, labels = predicted
    targets = torch.cat([y.cpu() for _, y in found]).unique()
    return draw_probe(predictions, labels, targets, target=settings.probe_target, other=settings.probe_other)


def _count(batches: list[Batch]) -> int:
    return sum(len(y) for _, y in batches)
