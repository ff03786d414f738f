"""Whether model and data belong together, asked before long work of the victim's own predictions.

Labels counted in another order than the model's, images that are not normalised as in training, true labels
in place of the poison's, probabilities in place of logits: each gives an answer to everything that follows,
and a wrong one. What the predictions prove is refused; where doubt remains there is a warning.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...errors import BadInput
from ...unlearning.inference import Predicted, logits_and_labels, predict
from ...unlearning.metrics import accuracy
from ..threshold import NothingToUnlearn
from .batches import Batches, random_part
from .label_order_signs import Relabelling, relabelling
from .normalisation_signs import Reading, better_reading

log = logging.getLogger(__name__)

USABLE = 0.5
"""Share of a set that the victim predicts as labelled, below which there is a doubt."""
ABOVE_CHANCE = 0.1
"""Part of the way from guessing to certainty that a usable classifier has gone at least."""
FAMILIAR = 0.95
"""From this agreement on no other reading of the images is looked for."""
BELIEVED, ALIKE, SOME = 0.3, 0.8, 5
"""True labels in place of the poison's: at most this share of S_f is predicted as labelled, and at least this
share as one class, of at least so many samples."""
LOGITS_LOOKED_AT = 64
ROUNDING = 1e-3

Check = Callable[[Predicted, Predicted], None]
"""Looks at the victim's predictions and the labels of S_f, and at those of retain; raises `BadInput`."""


def unchecked(forget: Predicted, retain: Predicted) -> None:
    """Let everything pass: the check of sweeps, which make their victims and data themselves."""


class VictimCheck:
    """A check of one healing.

    Args:
        victim: in eval mode.
        method: "lf" and "xlf" differentiate the norm of the logits themselves.
        retain: what is compared of it.
        clean: images known to be clean, in batches.
        base: a clean model that the victim is pulled towards.

    Attributes:
        warnings: what is in doubt; each is logged, too.
        classes_seen: share of the model's classes that occur in retain, once it was called.
    """

    def __init__(
        self,
        victim: nn.Module,
        method: str,
        retain: Batches,
        clean: Batches | None = None,
        base: nn.Module | None = None,
    ) -> None:
        self._victim, self._method, self._retain, self._clean = victim, method, retain, clean
        self._base = base
        self.warnings: tuple[str, ...] = ()
        self.classes_seen = 1.0

    def __call__(self, forget: Predicted, retain: Predicted) -> None:
        """Judge all sets; see `Check`.

        Raises:
            BadInput: model and data contradict each other, or the model returns no logits.
        """
        classes = self._check_logits()
        self.classes_seen = min(1.0, len(retain[1].unique()) / classes)
        self._compare("retain set", retain, self._retain, classes)
        if self._clean is not None:
            self._compare("clean set", predict(self._victim, self._clean, "clean set"), self._clean, classes)
        if self._base is not None:
            self._check_base(self._base)
        self._check_forget(*forget)

    def _doubt(self, text: str) -> None:
        self.warnings = (*self.warnings, text)
        log.warning("%s", text)

    def _check_logits(self) -> int:
        """Check the logits, and return how many classes the model has."""
        logits, _ = logits_and_labels(self._victim, random_part(self._retain, LOGITS_LOOKED_AT), "retain set")
        sort = no_logits(logits)
        if sort == "softmax":
            raise BadInput(
                "the model returns probabilities (no output below 0, and those of every image add up to 1), "
                "and theriac needs logits; give the model without the softmax at its end"
            )
        if sort == "log_softmax" and self._method in ("lf", "xlf"):
            raise BadInput(
                f"the model returns log-probabilities (their exponentials add up to 1), and the method "
                f"{self._method} differentiates the norm of the logits; give the model without the "
                f"log-softmax at its end, or choose the method ssd"
            )
        if sort == "sigmoid":
            self._doubt(
                "all outputs of the model lie in [0, 1], and theriac needs logits; if it ends in a sigmoid, "
                "give the model without that"
            )
        return logits.shape[1]

    def _compare(self, name: str, predicted: Predicted, samples: Batches, classes: int) -> None:
        """Compare labels and images of a set with what the model makes of them."""
        order, count = relabelling(*predicted), len(predicted[1])
        reading = better_reading(self._victim, samples) if order.agreement < FAMILIAR else None
        guessing = _highest(order.agreement, count) < least_agreement(classes)
        if reading and (not order.moved or reading.agreement > order.explained):
            self._judge(_misread(name, reading), certain=guessing or reading.certain)
        elif order.moved:
            self._judge(_misnumbered(name, order), certain=guessing or order.certain)
        elif order.agreement < USABLE:
            self._judge(_estranged(name, order.agreement, count, classes), certain=guessing)

    def _judge(self, text: str, *, certain: bool) -> None:
        if certain:
            raise BadInput(text)
        self._doubt(f"{text}; going on, as the model itself may be weak or damaged")

    def _check_base(self, base: nn.Module) -> None:
        """Check a clean model; with pre-trained weights its classes may be others: nothing is certain."""
        like = copy.deepcopy(base).to(next(self._victim.parameters()))
        order = relabelling(*predict(like, random_part(self._retain, 1000), "retain set"))
        if order.certain:
            self._doubt(
                f"base: it predicts {order.agreement:.1%} of retain as labelled, and {order.explained:.1%} "
                f"if its classes were numbered otherwise ({order.shown()}); give a base whose classes are "
                f"numbered as the model's"
            )

    def _check_forget(self, predictions: Tensor, labels: Tensor) -> None:
        believed = accuracy(predictions, labels)
        target, share = _commonest(predictions)
        if believed == 0:
            raise NothingToUnlearn(
                f"forget set: the model predicts none of {len(labels)} samples as labelled (and {share:.0%} "
                f"as class {target}), so there is nothing to unlearn; give the labels the poison was trained "
                f"with (not the true ones), numbered as the model's, and preprocess the images as in training"
            )
        if believed >= USABLE:
            return
        text = (
            f"forget set: the model predicts {believed:.0%} of {len(labels)} samples as labelled, and "
            f"{share:.0%} as class {target}; give the labels that the poison was trained with (the target "
            f"class), not the true ones"
        )
        mixed = len(labels.unique()) > 1
        self._judge(text, certain=mixed and len(labels) >= SOME and believed <= BELIEVED and share >= ALIKE)


def no_logits(outputs: Tensor) -> str | None:
    """Tell what outputs [N, classes] are in place of logits: "softmax", "log_softmax", "sigmoid", or None."""
    ones = torch.ones(len(outputs))
    if bool((outputs >= 0).all()) and torch.allclose(outputs.sum(1), ones, atol=ROUNDING):
        return "softmax"
    if bool((outputs <= 0).all()) and torch.allclose(outputs.exp().sum(1), ones, atol=ROUNDING):
        return "log_softmax"
    return "sigmoid" if bool(((outputs >= 0) & (outputs <= 1)).all()) else None


def least_agreement(classes: int) -> float:
    """Return the agreement below which a model of so many classes is hardly better than guessing."""
    return 1 / classes + ABOVE_CHANCE * (1 - 1 / classes)


def _highest(share: float, count: int, deviations: float = 2.0) -> float:
    """Compute Wilson's upper bound of a share that was counted in ``count`` samples."""
    square = deviations**2
    middle = share + square / (2 * count)
    spread = deviations * math.sqrt(share * (1 - share) / count + square / (4 * count**2))
    return (middle + spread) / (1 + square / count)


def _commonest(predictions: Tensor) -> tuple[int, float]:
    counts = torch.bincount(predictions)
    return int(counts.argmax()), int(counts.max()) / len(predictions)


def _misread(name: str, reading: Reading) -> str:
    return (
        f"{name}: the model predicts {reading.before:.1%} of the images as labelled, and "
        f"{reading.agreement:.1%} if they were {reading.text}; preprocess them as in training "
        f"(normalisation: mean and std)"
    )


def _misnumbered(name: str, order: Relabelling) -> str:
    return (
        f"{name}: the model predicts {order.agreement:.1%} of the images as labelled, and "
        f"{order.explained:.1%} if {len(order.moved)} of {order.classes} classes were numbered otherwise "
        f"({order.shown()}): the labels are in another order than the model's; number the classes as in "
        f"training (folders sorted as text, and missing classes, shift them)"
    )


def _estranged(name: str, agreement: float, count: int, classes: int) -> str:
    return (
        f"{name}: the model predicts {agreement:.1%} of {count} samples as labelled (guessing: "
        f"{1 / classes:.1%}); check that the labels are in the model's order, that the images are "
        f"preprocessed as in training (normalisation, size, channels), and that these are the trained weights"
    )
