"""Fine-tuning as an unlearning method: on retain (CF), and on clean images; and the loop others build on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ...datasets.augmentation import Augmentation
from ...datasets.samples import Samples
from ...rows import Row
from ..training import Loss, Recipe, cross_entropy, train
from .unlearner import TRAINED_IMAGE, Known, Run, Set, Unlearner


class FineTuneOnRetain(Recipe, Unlearner):
    """CF, catastrophic forgetting: train on with the retain set and hope that S_f is forgotten.

    A baseline (Goel et al., 2022 and 2024). Retain holds the undiscovered poison, so that where any is left
    the trigger is trained in again. The hyperparameters are those of a `Recipe`; "same recipe as the victim"
    is ``FineTuneOnRetain(**recipe.model_dump())``. The warm-up starts over.

    Attributes:
        augmentation: "none" unless it is chosen: what suits the images only their owner knows.
        round_iterations: iterations a round of the trace; None for an epoch. Rows carry "phase"
            ("fine_tuning") and "loss", the mean cross-entropy of the round.
    """

    needs: ClassVar[tuple[Set, ...]] = ("retain",)

    augmentation: Augmentation = "none"
    round_iterations: int | None = Field(default=None, ge=1, le=2**31)

    def work(self, sizes: Mapping[Set, int], classes: int) -> float:
        """Return the work of a run; see `Unlearner.work`."""
        return TRAINED_IMAGE * self.iterations * min(self.batch_size, sizes["retain"])

    def _unlearn(self, model: nn.Module, known: Known, run: Run) -> None:
        retain = known.need("retain", type(self).__name__)
        recipe = Recipe.model_validate(self.model_dump(include=set(Recipe.model_fields)))
        fine_tune(model, retain, recipe, run, round_iterations=self.round_iterations)


class CleanFineTuning(Unlearner):
    """What the methods have in common that end in some epochs on clean images.

    The learning rate falls linearly to a fifth, without warm-up; the rest is as in a `Recipe`.

    Attributes:
        optimizer: "sgd" with ``momentum``, or "adamw".
        learning_rate: at the start.
        momentum: of SGD.
        weight_decay: L2 penalty (SGD) or decoupled decay (AdamW).
        batch_size: samples per iteration.
        epochs: passes over the clean images; each is a round of the trace. An epoch is rounded up to whole
            batches.
        augmentation: "none" unless it is chosen: "crop", or "crop_flip" where mirrored images mean the same.
        precision: as in a `Recipe`.
    """

    needs: ClassVar[tuple[Set, ...]] = ("clean",)

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.01, gt=0, le=10)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    batch_size: int = Field(default=128, ge=1, le=2**31)
    epochs: int = Field(default=10, ge=1, le=2**31)
    augmentation: Augmentation = "none"
    precision: Literal["float32", "bfloat16"] = "float32"

    def work(self, sizes: Mapping[Set, int], classes: int) -> float:
        """Return the work of a run; see `Unlearner.work`."""
        return TRAINED_IMAGE * self.epochs * sizes["clean"]

    def recipe(self, count: int, epochs: int | None = None) -> Recipe:
        """Return the recipe of ``epochs`` (those of the settings unless given) over ``count`` samples.

        Args:
            count: samples of the clean set.
            epochs: passes over it; None: those of the settings.
        """
        length = math.ceil(count / min(self.batch_size, count))
        return Recipe(
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            iterations=length * (epochs or self.epochs),
            warmup=0.0,
            augmentation=self.augmentation,
            precision=self.precision,
        )


class FineTuneOnClean(CleanFineTuning):
    """Plain fine-tuning on images that are known to be clean: the baseline of the methods that need some.

    Small learning rates leave a trigger in place, large ones wear it away together with what 5000 images
    cannot teach again. Rows of the trace carry "phase" ("fine_tuning") and "loss".
    """

    def _unlearn(self, model: nn.Module, known: Known, run: Run) -> None:
        clean = known.need("clean", type(self).__name__)
        fine_tune(model, clean, self.recipe(len(clean)), run)


class MeanLoss:
    """A loss that remembers its mean.

    Args:
        loss: what is computed.
    """

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._seen: list[Tensor] = []

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        value = self._loss(model, x, y)
        self._seen.append(value.detach())
        return value

    def take(self) -> float:
        """Return the mean since it was last asked for."""
        mean = torch.stack(self._seen).mean().item()
        self._seen.clear()
        return mean


def fine_tune(
    model: nn.Module,
    data: Samples,
    recipe: Recipe,
    run: Run,
    *,
    phase: str = "fine_tuning",
    seed: int | None = None,
    round_iterations: int | None = None,
    loss: Loss = cross_entropy,
    after_step: Callable[[], None] | None = None,
    columns: Callable[[], Row] | None = None,
    further_rounds: int = 0,
) -> None:
    """Train ``model`` in place and record a round an epoch.

    Args:
        model: on the device of ``data``.
        data: what it is trained on.
        recipe: see `Recipe`.
        run: where the rounds go; each row carries "phase" and "loss", its mean over the round.
        phase: what this training is called in the trace.
        seed: as in `train`; that of the run unless given.
        round_iterations: iterations a round; an epoch unless given. The last round may be shorter.
        loss: see `train`.
        after_step: called after every step of the optimiser.
        columns: more columns of a row, asked for when its round is over.
        further_rounds: rounds that follow this training.
    """
    length = round_iterations or math.ceil(len(data) / min(recipe.batch_size, len(data)))
    rounds = len(run.trace) + math.ceil(recipe.iterations / length) + further_rounds
    meter = MeanLoss(loss)

    def stepped(done: int, iterations: int) -> None:
        if after_step:
            after_step()
        if done % length == 0 or done == iterations:
            more = columns() if columns else {}
            run.record(model, rounds, phase=phase, loss=meter.take(), **more)

    train(model, data, recipe, seed=run.seed if seed is None else seed, progress=stepped, loss=meter)
