"""Neural Cleanse (Wang et al., 2019): find the class with an abnormally small trigger, and unlearn that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn

from ...datasets.augmentation import Augmentation
from ...datasets.samples import Selected
from .fine_tuning import CleanFineTuning, fine_tune
from .trigger_reversal import (
    ReversedTriggers,
    TriggerReversal,
    anomaly_indices,
    in_pixels,
    normalised,
    reverse_triggers,
)
from .unlearner import TRAINED_IMAGE, Known, Run, Set


class NeuralCleanse(CleanFineTuning):
    """Reverse a trigger for each class, mark the abnormally small ones, train with those under true labels.

    A class is marked where its trigger works and its `anomaly_indices` is above ``threshold`` (section V).
    The fine-tuning set is the clean images, of which ``patched`` carry the trigger of a marked class (section
    VI.C: one epoch, a fifth patched); which images, and whose trigger, is drawn anew for each batch. All
    marked classes are unlearnt together, as in the I-BAU paper's trials.

    No class marked: the model is the victim, and the status is "no_trigger". Three classes or more are
    needed to tell anything; an attack on every class has no outlier and is not found.

    Attributes:
        reversal: see `TriggerReversal`.
        threshold: of the anomaly index.
        patched: share of each batch.

    Rows of the trace: with "phase" "reversal" one a class, with "class", "mask_norm" (pixels),
    "anomaly_index", "attack_success" (of the reversed trigger on clean images) and "flagged"; then those of
    "fine_tuning" with "loss".
    """

    epochs: int = Field(default=2, ge=1, le=2**31)
    reversal: TriggerReversal = TriggerReversal()
    threshold: float = Field(default=2.0, gt=0, le=100)
    patched: float = Field(default=0.2, ge=0, le=1)

    def work(self, sizes: Mapping[Set, int], classes: int) -> float:
        """Return the work of a run; see `Unlearner.work`."""
        one, clean = self.reversal, sizes["clean"]
        reversal = classes * one.rounds * one.steps * min(one.batch_size, clean)
        return TRAINED_IMAGE * reversal + super().work(sizes, classes)

    def _unlearn(self, model: nn.Module, known: Known, run: Run) -> None:
        clean = known.need("clean", type(self).__name__)
        triggers = reverse_triggers(model, clean, self.reversal, run.generator("reversed triggers"))
        marked = self._marked(model, triggers, run)
        if not len(marked):
            run.status = "no_trigger"
            return
        patched = _Patched(
            samples=clean,
            rows=torch.arange(len(clean)),
            triggers=triggers,
            classes=marked,
            share=self.patched,
            draws=run.generator("patched images"),
        )
        fine_tune(model, patched, self.recipe(len(clean)), run)

    def _marked(self, model: nn.Module, triggers: ReversedTriggers, run: Run) -> Tensor:
        """Return the classes that are marked, int64 on the CPU; record a row of the trace for every class."""
        indices = anomaly_indices(triggers.norms)
        flagged = (indices > self.threshold) & (triggers.success >= self.reversal.success)
        for c in range(len(indices)):
            run.record(
                model,
                len(indices) + (self.epochs if flagged.any() else 0),
                phase="reversal",
                **{"class": c},
                mask_norm=triggers.norms[c].item(),
                anomaly_index=indices[c].item(),
                attack_success=triggers.success[c].item(),
                flagged=bool(flagged[c]),
            )
        return flagged.nonzero().flatten().cpu()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Patched(Selected):
    """Samples of which a share carries a reversed trigger, added after the augmentation; labels stay."""

    triggers: ReversedTriggers
    classes: Tensor
    share: float
    draws: torch.Generator

    def batch(
        self, rows: Tensor, augmentation: Augmentation = "none", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        x, y = super().batch(rows, augmentation, generator)
        where = torch.randperm(len(x), generator=self.draws)[: round(self.share * len(x))]
        which = self.classes[torch.randint(len(self.classes), (len(where),), generator=self.draws)]
        where, which = where.to(x.device), which.to(x.device)
        pixels = self.triggers.add(in_pixels(x[where], self.samples), which)
        return x.index_copy(0, where, normalised(pixels, self.samples)), y
