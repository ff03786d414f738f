"""What can be chosen about a run of I-BAU."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field

from ...datasets.augmentation import Augmentation
from .hypergradient import Solver
from .universal_perturbation import Ascent, Labels, Norm, Projection
from .unlearner import Unlearner

_PLAIN: dict[str, Any] = {
    "rounds": 3,
    "batch_size": 100,
    "batches": None,
    "norm": "l2",
    "bound": 10.0,
    "clamp": False,
    "inner_optimizer": "sgd",
    "inner_steps": None,
    "perturbations": 1,
    "solver": "fixed_point",
    "iterations": 5,
    "step": 0.1,
    "damping": 0.0,
    "weakest": 1.0,
    "largest": None,
    "distillation": 0.0,
    "schedule": "constant",
    "mode": "eval",
    "augmentation": "none",
    "recovered": None,
    "patience": None,
    "most_damage": None,
}
"""What `IBAUSettings.paper` and `IBAUSettings.released` share."""


class IBAUSettings(Unlearner):
    """The settings of a run of `IBAU`.

    Attributes:
        rounds: at most so many.
        batch_size: images of a batch, inner and outer.
        batches: outer steps of a round, through the set over again where it is short; None = once through.
        shuffle: draw the order of the batches anew every round; else the order of the set.
        norm: of the ball of delta: "l2", "linf", or "range" (only values within -1..1).
        bound: C, its radius, in pixels.
        projection: project delta after "every_step" of the ascent, at its "end", or "never".
        clamp: keep images with delta within [0, 1].
        inner_optimizer: "sgd", "adam", or "unit" (steps of fixed length along the gradient).
        inner_learning_rate: of the ascent.
        inner_steps: of the ascent, a batch each; None = every batch once.
        inner_labels: the ascent leaves the "true" labels, or those "predicted" without delta.
        inner_penalty: the inner loss has - inner_penalty * ||delta||^2.
        inner_batch: on what the inner loss of the hypergradient is computed: the "first" batch of the round,
            "each" outer batch itself, or "all" images.
        perturbations: so many deltas are found at the beginning of a round, each from zero and from
            batches of its own (all batches in another order, if ``inner_steps`` is None); every patched image
            draws one of them.
        solver: see `Solver`.
        iterations: K; 0 = the direct gradient alone.
        step: of the fixed-point map.
        damping: see `Solver`.
        patched: share of each outer batch that carries delta; at least one image unless it is 0.
        weakest: each patched image gets delta times a factor drawn from weakest..1.
        largest: the mean loss of the patched images of a batch counts as at most this (its gradient is scaled
            down to it, its direction kept); None = no limit.
        distillation: weight w of the outer loss w * CE(victim's probabilities, clean images) + (1 - w) *
            CE(labels, batch).
        optimizer: of the weights: "adam", or "sgd" with ``momentum``.
        learning_rate: of the first batch.
        momentum: of "sgd".
        schedule: the learning rate stays "constant" or falls on a "linear" or "cosine" curve to 0.
        mode: "eval" keeps BatchNorm's statistics and drops nothing; "train" lets BatchNorm and dropout do as
            in training, in the outer loss only.
        augmentation: of the outer batches, before delta.
        probe: images of the clean set on which a round is judged; 0 = all.
        recovered: stop when, under a fresh delta, the model predicts this share of what it predicts without.
        patience: stop after so many rounds in which accuracy under a fresh delta did not rise; None = never.
        most_damage: stop, and go back to the round before, where accuracy on the probe without delta falls
            by more than so many percentage points below the victim's. The probe is part of what is trained
            on, so it flatters.
    """

    rounds: int = Field(default=2, ge=1, le=2**31)
    batch_size: int = Field(default=100, ge=1, le=2**31)
    batches: int | None = Field(default=50, ge=1, le=2**31)
    shuffle: bool = True
    norm: Norm = "l2"
    bound: float = Field(default=10.0, gt=0)
    projection: Projection = "end"
    clamp: bool = False
    inner_optimizer: Literal["sgd", "adam", "unit"] = "sgd"
    inner_learning_rate: float = Field(default=10.0, gt=0)
    inner_steps: int | None = Field(default=10, ge=1, le=2**31)
    inner_labels: Labels = "predicted"
    inner_penalty: float = Field(default=0.001, ge=0)
    inner_batch: Literal["first", "each", "all"] = "first"
    perturbations: int = Field(default=5, ge=1, le=2**31)
    solver: Literal["fixed_point", "conjugate_gradient"] = "fixed_point"
    iterations: int = Field(default=0, ge=0, le=2**31)
    step: float = Field(default=0.1, gt=0)
    damping: float = Field(default=0.0, ge=0)
    patched: float = Field(default=0.3, ge=0, le=1)
    weakest: float = Field(default=1.0, ge=0, le=1)
    largest: float | None = Field(default=10.0, gt=0)
    distillation: float = Field(default=0.0, ge=0, lt=1)
    optimizer: Literal["sgd", "adam"] = "adam"
    learning_rate: float = Field(default=2e-3, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    mode: Literal["eval", "train"] = "eval"
    augmentation: Augmentation = "none"
    probe: int = Field(default=1000, ge=0, le=2**31)
    recovered: float | None = Field(default=0.95, gt=0, le=1)
    patience: int | None = Field(default=None, ge=1, le=2**31)
    most_damage: float | None = Field(default=10.0, gt=0, le=100)

    @classmethod
    def paper(cls) -> Self:
        """Return Algorithm 1: everything patched, delta projected every step, learning rates of 0.1 (A.4).

        The paper leaves the inner optimiser's batches open; here each batch is one step. On both published
        victims it diverges (`TrainingDiverged`), also with a ``step`` of 0.01; with Adam, or a tenth of the
        learning rate, it wrecks them (8.8 / 0.0 / 8.8 and 14.6 / 79.2 / 14.9 on BadNets, 1000 clean images).
        """
        return cls(
            **_PLAIN,
            projection="every_step",
            inner_learning_rate=0.1,
            inner_labels="true",
            inner_penalty=0.0,
            inner_batch="each",
            patched=1.0,
            optimizer="sgd",
            momentum=0.0,
            learning_rate=0.1,
        )

    @classmethod
    def released(cls) -> Self:
        """Return the settings of the authors' program; they differ from the paper's nearly everywhere."""
        return cls(
            **_PLAIN,
            shuffle=False,
            projection="end",
            inner_learning_rate=10.0,
            inner_labels="predicted",
            inner_penalty=0.001,
            inner_batch="first",
            patched=0.01,
            optimizer="adam",
            learning_rate=1e-3,
        )

    @property
    def ascent(self) -> Ascent:
        """Return how delta is found."""
        return Ascent(
            norm=self.norm,
            bound=self.bound,
            projection=self.projection,
            optimizer=self.inner_optimizer,
            learning_rate=self.inner_learning_rate,
            steps=self.inner_steps,
            labels=self.inner_labels,
            penalty=self.inner_penalty,
        )

    @property
    def linear_solver(self) -> Solver:
        """Return how the hypergradient is found."""
        return Solver(name=self.solver, iterations=self.iterations, step=self.step, damping=self.damping)
