"""What a search asks: how does the victim, dampened at this percentile, do on the found poison?"""

from __future__ import annotations

import copy
from collections.abc import Hashable
from dataclasses import dataclass

from torch import nn

from ..errors import BadInput
from ..unlearning.dampening import DampeningPath
from ..unlearning.importance import Importance
from ..unlearning.inference import predict
from .forget_set import Batches, ForgetSet
from .threshold import crosses

BELOW = 1 - 1e-6
"""Below this multiple of lambda, what a smaller alpha selects does not change: min(lambda / r, 1) is 1."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A dampened model on S_f.

    Attributes:
        alpha: selection threshold.
        dampened: number of parameters selected, I_f > alpha * I_r.
        forget_accuracy: share of S_f predicted as labelled.
    """

    alpha: float
    dampened: int
    forget_accuracy: float

    @property
    def exact(self) -> bool:
        """Tell whether ``forget_accuracy`` is the accuracy itself."""
        return True


@dataclass(frozen=True, kw_only=True)
class BoundedEvaluation(Evaluation):
    """An evaluation that stopped early.

    ``forget_accuracy`` is a bound that lies on the same side of the threshold as the accuracy: a lower bound
    above the threshold, or an upper bound that is not.
    """

    @property
    def exact(self) -> bool:
        return False


class DampeningProblem:
    """A victim, its importances and S_f: everything that stays the same during a search.

    A measurement leaves out what cannot have changed since the last one: the submodules before the first
    weight that a step touches; see `Unchanged`. Predictions are the same to the bit.

    Memory, for N float32 parameters: the victim is the caller's; this holds one working copy (4 N bytes), the
    two importances in float32 (8 N), and about 20 bytes for each parameter that is sorted, at first the 1/32
    with the largest ratios; see `DampeningPath`. From the first measurement until `release`, besides: S_f and
    the remembered outputs, at most ``memory`` bytes together (68 MB for 100 images of 32 x 32 and a ResNet-9
    of full width).

    Args:
        victim: never changed; a working copy is dampened instead.
        forget: (x, y) batches of S_f. Read once, at the first measurement, if they fit ``memory``; else once
            per measurement, and must stay the same.
        forget_importance: over S_f.
        retain_importance: over retain, of the same kind and granularity.
        dampening_constant: lambda.
        piece: samples of S_f per forward pass, at least 1; None: the batches as they are. Small ones (8) let
            a measurement that may stop early do so sooner, and cost no more on a CPU; predictions are the
            same up to how rounding depends on the size of a batch.
        memory: bytes for S_f and for remembered outputs, >= 0. None: half of what a GPU has free; on a CPU
            512 MiB or a quarter of what is. If S_f does not fit, nothing is kept or remembered; results are
            the same.
        forget_count: |S_f|, where it is known; else the first measurement counts, and is always exact.

    Attributes:
        reduced_to: the smaller `Importance.reduced_to` of the two; None: memory never ran out.

    Raises:
        BadInput: a piece below 1, memory below 0, or importances of different kinds or of another model.
    """

    def __init__(
        self,
        victim: nn.Module,
        forget: Batches,
        forget_importance: Importance,
        retain_importance: Importance,
        *,
        dampening_constant: float = 1.0,
        piece: int | None = None,
        memory: int | None = None,
        forget_count: int | None = None,
    ) -> None:
        sorts = {
            (i.kind, i.granularity, i.exponent, i.precision) for i in (forget_importance, retain_importance)
        }
        if len(sorts) > 1:
            raise BadInput(
                f"forget and retain importances are of different sorts: {sorted(map(str, sorts))}; compute "
                f"both of one kind, granularity, exponent and precision"
            )
        self._forget_count = forget_count
        self._known: dict[tuple[Hashable, float | None], tuple[float, bool]] = {}
        self._constant = dampening_constant
        reduced = (i.reduced_to for i in (forget_importance, retain_importance))
        self.reduced_to = min((size for size in reduced if size is not None), default=None)
        self._model = copy.deepcopy(victim).requires_grad_(False)
        self._path = DampeningPath(dict(self._model.named_parameters()), forget_importance, retain_importance)
        self._forget = ForgetSet(forget, self._model, piece=piece, memory=memory)

    @property
    def parameter_count(self) -> int:
        """Count the parameters of the model."""
        return self._path.count

    @property
    def held_bytes(self) -> int:
        """Count the bytes held: the working copy's parameters, importances, what is sorted and remembered."""
        return self._path.held_bytes + self._forget.held_bytes

    def evaluate(self, percentile: float, *, threshold: float | None = None) -> Evaluation:
        """Dampen at alpha(percentile) and measure the forget accuracy.

        Args:
            percentile: in [0, 100].
            threshold: stop the measurement as soon as it is certain whether the forget accuracy is at most
                this; the result is a `BoundedEvaluation` then. None, or S_f in one piece: always exact.
        """
        return self.evaluate_at(self.alpha_at(percentile), threshold=threshold)

    def evaluate_at(
        self, alpha: float, dampening_constant: float | None = None, *, threshold: float | None = None
    ) -> Evaluation:
        """Dampen at alpha, with another lambda if one is given, and measure; see `evaluate`."""
        constant = self._lambda(dampening_constant)
        count = self._path.move_to(alpha, constant)
        forget_accuracy, exact = self._measured(alpha, constant, threshold)
        kind = Evaluation if exact else BoundedEvaluation
        return kind(alpha=alpha, dampened=count, forget_accuracy=forget_accuracy)

    def alpha_at(self, percentile: float) -> float:
        """Return alpha for a percentile in [0, 100]."""
        return self._path.alpha_at(percentile)

    def dampened(self, alpha: float, dampening_constant: float | None = None) -> nn.Module:
        """Return the working copy with the victim's weights dampened at ``alpha``.

        Valid until the next call of this class; with another lambda if one is given.
        """
        self._path.move_to(alpha, self._lambda(dampening_constant))
        return self._model

    def undampened(self) -> nn.Module:
        """Return the working copy with the victim's weights; valid until the next call."""
        self._path.restore()
        return self._model

    def victim_forget_accuracy(self) -> float:
        """Measure Acc_forget(victim) now."""
        self._path.restore()
        return self._forget_accuracy(None)[0]

    def selected(self, alpha: float) -> int:
        """Count the parameters that have I_f > alpha * I_r."""
        return self._path.selected(alpha)

    def weights_at(self, alpha: float, dampening_constant: float | None = None) -> Hashable:
        """Return what the dampened weights are known by: where this is equal they are, to the bit.

        min(lambda / r, 1) is 1 for r up to lambda: every alpha below lambda does the same, and where only
        infinite ratios are above both, neither matters.
        """
        constant = self._lambda(dampening_constant)
        if not self._path.selected(alpha):
            return "undampened"
        if self._path.selected(max(alpha, constant * BELOW)) == self._path.infinite:
            return "infinite"
        return constant if alpha <= constant * BELOW else (alpha, constant)

    def release(self) -> None:
        """Hold no outputs of the last measurement any more; the next one starts afresh. S_f itself stays."""
        self._forget.release()

    def _measured(self, alpha: float, constant: float, threshold: float | None) -> tuple[float, bool]:
        """Measure the weights at alpha; those that several alphas lead to, once."""
        weights = self.weights_at(alpha, constant)
        if isinstance(weights, tuple):
            return self._forget_accuracy(threshold)
        if (weights, threshold) not in self._known:
            self._known[weights, threshold] = self._forget_accuracy(threshold)
        return self._known[weights, threshold]

    def _lambda(self, dampening_constant: float | None) -> float:
        return self._constant if dampening_constant is None else dampening_constant

    def _forget_accuracy(self, threshold: float | None) -> tuple[float, bool]:
        """Measure the working copy as it is; tell whether that is exact. Where |S_f| is unknown, it is."""
        count, correct, seen = self._forget_count, 0, 0
        for number, piece in enumerate(self._forget):
            with self._forget.recalling(number, self._path.changed):
                predictions, labels = predict(self._model, [piece], "forget set")
            correct, seen = correct + int((predictions == labels).sum()), seen + len(labels)
            if threshold is not None and count is not None:
                if not crosses(correct / count, threshold):
                    return correct / count, seen == count
                if crosses((correct + count - seen) / count, threshold):
                    return (correct + count - seen) / count, seen == count
        if count is not None and seen != count:
            raise BadInput(
                f"the forget set held {count} samples at first and holds {seen} now; give data that stay the "
                f"same from pass to pass"
            )
        if not seen:
            raise BadInput("the forget set holds no samples; give at least one that is known to be poisoned")
        self._forget_count = seen
        return correct / seen, True
