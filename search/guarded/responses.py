"""How samples respond to a gentle dampening along S_f's importances, and who is suspected for it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from ...unlearning.dampening import DampeningPath, centred
from ...unlearning.importance import Importance
from ...unlearning.inference import Batch, logits_and_labels
from ...unlearning.precision import Arithmetic
from ..given import Batches
from .bystanders import ordered
from .groups import NOBODY, Responses, Suspicion, suspect, together

FALL, CLEAR = 0.6, 4.0
"""Suspicion is looked for until S_f's logits have fallen by this part, or two groups lie so far apart. Where
they have at the first look, and nothing is apart, there is a second: a lone sample of a moving patch on
CIFAR-10 fell by 0.8 at once, and its company stood out only at the next count."""
HALF, WHOLE = 0.5, 1.0
"""Others are looked for between these parts of the fall of what is known."""
FIRST, FACTOR = 16, 4


def look_for_suspects(
    victim: nn.Module,
    found: Batches,
    target: Batches | None,
    pair: tuple[Importance, Importance],
    dampening_constant: float,
    arithmetic: Arithmetic,
) -> Suspicion:
    """Dampen along a ranking, and see whose logits fall, for each target where that shows best.

    Args:
        victim: not changed.
        found: S_f, or a part of it.
        target: retain samples of its classes; None: there are none.
        pair: importances of S_f and retain.
        dampening_constant: lambda.
        arithmetic: of all passes.
    """
    ranked = _Ranked(victim, pair, dampening_constant, arithmetic)
    forget, retain = _Seen(ranked, found), None if target is None else _Seen(ranked, target)
    best = dict[int, Suspicion]()
    for number, count in enumerate(ranked.counts(FIRST)):
        responses, others = forget.responses(count), NOBODY if retain is None else retain.responses(count)
        for label in forget.labels.unique().tolist():
            own = others if retain is None else others.select(retain.labels == label)
            seen = suspect(own, responses.select(forget.labels == label), ranked.classes)
            best[label] = max(seen, best.get(label, seen), key=_clearness)
        clear = all(one.apart and one.separation >= CLEAR for one in best.values())
        known = number > 0 or any(one.apart for one in best.values())
        if clear or (known and responses.falls.sum() >= FALL * forget.before.sum()):
            break
    return together(best, forget.labels, torch.zeros(0) if retain is None else retain.labels)


def look_again(
    victim: nn.Module,
    known: Iterable[Batch],
    rest: Iterable[Batch],
    pair: tuple[Importance, Importance],
    dampening_constant: float,
    arithmetic: Arithmetic,
) -> Tensor:
    """Tell which of the rest respond, too, when what is known is dampened further, bool [N].

    Hidden poison that shares less with S_f (another place of a moving trigger) falls with it only here.

    Args:
        victim: not changed.
        known: batches of found poison and suspects; they are read several times.
        rest: the retain samples of the target classes that are not suspected.
        pair: importances whose ratio ranks by the known.
        dampening_constant: lambda.
        arithmetic: of all passes.
    """
    ranked = _Ranked(victim, pair, dampening_constant, arithmetic)
    guilty, others = _Seen(ranked, known), _Seen(ranked, rest)
    best = dict[int, Suspicion]()
    for count in ranked.counts(FIRST):
        falls = guilty.responses(count).falls
        fallen = float(falls.sum() / guilty.before.sum())
        if fallen < HALF:
            continue
        responses = others.responses(count)
        for label in guilty.labels.unique().tolist():
            own, mean = responses.select(others.labels == label), float(falls[guilty.labels == label].mean())
            seen = suspect(own, NOBODY, ranked.classes, mean)
            best[label] = max(seen, best.get(label, seen), key=_clearness)
        if fallen >= WHOLE:
            break
    new = torch.zeros(len(others.labels), dtype=torch.bool)
    for label, one in best.items():
        new[others.labels == label] = one.retain
    return new


def _clearness(suspicion: Suspicion) -> tuple[bool, float]:
    return suspicion.apart, suspicion.separation


class _Ranked:
    """A copy of the victim, dampened along a ranking."""

    def __init__(
        self,
        victim: nn.Module,
        pair: tuple[Importance, Importance],
        dampening_constant: float,
        arithmetic: Arithmetic,
    ) -> None:
        self._model = copy.deepcopy(victim).requires_grad_(False)
        self._path = DampeningPath(dict(self._model.named_parameters()), *pair)
        self._dampening_constant, self._arithmetic = dampening_constant, arithmetic
        self.classes = 0
        self._device = next(self._model.parameters()).device

    def counts(self, first: int) -> Iterator[int]:
        """Yield ``first`` ranks, `FACTOR` times as many, and so on; all that are sorted at last."""
        count = first
        while count < self._path.sorted_count:
            yield count
            count *= FACTOR
        yield self._path.sorted_count

    def logits(self, samples: Iterable[Batch], count: int) -> tuple[Tensor, Tensor]:
        """Compute the logits with the first ``count`` ranks dampened, and return the labels with them."""
        self._path.move_to_count(count, self._dampening_constant)
        with self._arithmetic.autocast(self._device):
            logits, labels = logits_and_labels(self._model, ordered(samples, self._arithmetic))
        self.classes = logits.shape[1]
        return logits, labels


class _Seen:
    """Samples, and what the victim says of them."""

    def __init__(self, ranked: _Ranked, samples: Iterable[Batch]) -> None:
        self._ranked, self._samples = ranked, samples
        logits, self.labels = ranked.logits(samples, 0)
        self.before = centred(logits, self.labels)

    def responses(self, count: int) -> Responses:
        """Return the responses to dampening the first ``count`` ranks."""
        logits, labels = self._ranked.logits(self._samples, count)
        runners = logits.scatter(1, labels[:, None], -torch.inf).argmax(1)
        return Responses(falls=self.before - centred(logits, labels), runners=runners)
