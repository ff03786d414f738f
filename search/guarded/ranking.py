"""The ranking that a guarded search walks along, and the suspects whose samples it is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ...unlearning.dampening import falling
from ...unlearning.importance import Importance
from ...unlearning.inference import Batch
from ...unlearning.precision import Arithmetic
from ..given import Batches
from ..importance_for import importance_for
from .bystanders import kept
from .probe import take
from .responses import look_again
from .settings import MOST_MEASURED, GuardedFields

ImportancePair = tuple[Importance, Importance]

MOST_ROUNDS = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Accused:
    """Who is believed to be poison, and who is not.

    Attributes:
        believed: samples of S_f that are.
        target: the probe's retain samples of the target classes; None: there are none.
        suspected: which of those are, bool [N].
    """

    believed: Batches
    target: Batches | None
    suspected: Tensor

    @property
    def suspects(self) -> Batches | None:
        """Return the suspected samples of the target classes; None: there are none."""
        return None if self.target is None else take(self.target, self.suspected.nonzero().flatten())

    @property
    def clean(self) -> Batches | None:
        """Return the samples of the target classes that are not suspected; None: there are none."""
        return None if self.target is None else take(self.target, (~self.suspected).nonzero().flatten())

    def watched(self, arithmetic: Arithmetic) -> list[Batch]:
        """Return the samples that a step should heal."""
        sides = (self.believed, self.suspects)
        return [batch for side in sides for batch in kept(side, MOST_MEASURED, arithmetic)]

    def grown(self, new: Tensor) -> Accused:
        """Return a copy in which ``new`` of the clean ones are suspected, too, bool [those]."""
        suspected = self.suspected.clone()
        suspected[(~suspected).nonzero().flatten()[new]] = True
        return replace(self, suspected=suspected)


def rank(
    victim: nn.Module, accused: Accused, retain: Importance, settings: GuardedFields
) -> tuple[Accused, ImportancePair]:
    """Rank the weights, look along the ranking for poison that was not suspected, and rank again if there is.

    The ranking is I_f / max(I_r, I_t). I_f is over found poison and suspects, but 0 where dampening the
    weight would not make the victim doubt them (first order): such a weight cannot heal. I_t is over the
    unsuspected samples of the target classes: a weight that a whole class depends on is important for it,
    though not for retain as a whole, where most samples are of other classes.

    Args:
        victim: not changed.
        accused: who is suspected so far.
        retain: importance of retain.
        settings: of a guarded search.

    Returns:
        Who is suspected now, and importances whose ratio is the ranking.
    """
    arithmetic = Arithmetic(settings.precision_of_probes)
    guilty = importance_for(settings, victim, accused.believed)
    if accused.suspects is not None:
        guilty = guilty + importance_for(settings, victim, accused.suspects)
    for number in range(MOST_ROUNDS + 1):
        pair = _ranking(victim, accused, guilty, retain, settings)
        clean = accused.clean
        if number == MOST_ROUNDS or clean is None:
            break
        known = accused.watched(arithmetic)
        new = look_again(victim, known, clean, pair, settings.dampening_constant, arithmetic)
        if not new.any():
            break
        guilty = guilty + importance_for(settings, victim, clean.select(new.nonzero().flatten()))
        accused = accused.grown(new)
    return accused, pair


def _ranking(
    victim: nn.Module, accused: Accused, guilty: Importance, retain: Importance, settings: GuardedFields
) -> ImportancePair:
    direction = falling(victim, accused.watched(Arithmetic()))
    forget = {name: value * (direction[name] > 0) for name, value in guilty.mean().items()}
    rest, clean = retain.mean(), accused.clean
    if clean is not None:
        own = importance_for(settings, victim, clean).mean()
        rest = {name: torch.maximum(value, own[name]) for name, value in rest.items()}
    return _as_importance(guilty, forget), _as_importance(retain, rest)


def _as_importance(like: Importance, mean: dict[str, Tensor]) -> Importance:
    return replace(like, total=mean, count=1, model=None, data=None)
