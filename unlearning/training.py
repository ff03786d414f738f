"""The recipe by which victims, and everything retrained to compare with them, are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.augmentation import Augmentation
from ..datasets.samples import Samples
from ..datasets.views import seeded_generator
from ..errors import BadInput
from .models import seeded, sound_batch_norm

Progress = Callable[[int, int], None]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""(model, images, labels) -> what is minimised, one number."""


class TrainingDiverged(RuntimeError):
    """The loss is no longer a finite number."""


class Recipe(BaseModel):
    """How a victim is trained (Goel et al.'s program; the defaults are the paper's for CIFAR-10).

    The paper says 4000 epochs; the program counts 4000 ITERATIONS. The LAST weights are the result.

    Attributes:
        optimizer: "sgd" with ``momentum``, or "adamw" (fine-tuning of ViTs).
        learning_rate: the peak, reached at the end of the warm-up.
        momentum: of SGD.
        weight_decay: L2 penalty (SGD) or decoupled decay (AdamW).
        batch_size: samples per iteration.
        iterations: optimiser steps.
        warmup: share of the schedule spent rising linearly.
        stretch: the schedule falls linearly to 0 over ``stretch`` times the iterations, so it ends above 0.
        augmentation: applied before the trigger.
        precision: "bfloat16" runs forward and backward passes under autocast, with images and weights in
            the channels-last order that matrix units of CPUs and GPUs take without copies.

    Example:
        >>> from theriac.unlearning.training import Recipe
        >>> recipe = Recipe(iterations=1000, learning_rate=0.1)
        >>> round(recipe.learning_rate_at(999), 3)
        0.02
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.025, gt=0, le=10)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=5e-4, ge=0, le=1)
    batch_size: int = Field(default=512, ge=1, le=2**31)
    iterations: int = Field(default=4000, ge=1, le=2**31)
    warmup: float = Field(default=0.01, ge=0, lt=1)
    stretch: float = Field(default=1.25, ge=1)
    augmentation: Augmentation = "crop_flip"
    precision: Literal["float32", "bfloat16"] = "float32"

    def learning_rate_at(self, iteration: int) -> float:
        """Return the learning rate of iteration 0, 1, ..., iterations - 1."""
        length = self.stretch * self.iterations
        rise = self.warmup * length
        if iteration < rise:
            return self.learning_rate * min(1.0, (iteration + 1) / rise)
        return self.learning_rate * ((length - iteration) / (length - rise))


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Compute the mean cross-entropy of a batch, in float32 whatever the precision of the forward pass.

    Args:
        model: returns logits [N, K].
        x: images [N, C, H, W].
        y: labels, int64 [N].
    """
    with sound_batch_norm(model):
        logits = model(x)
    return F.cross_entropy(logits.float(), y)


def train(
    model: nn.Module,
    data: Samples,
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress | None = None,
    loss: Loss = cross_entropy,
) -> nn.Module:
    """Train ``model`` in place and return it in eval mode with the last weights.

    Args:
        model: moved to the device of ``data``.
        data: training samples with labels as given.
        recipe: see `Recipe`.
        seed: determines the order of the samples, the augmentation and dropout.
        progress: called with (iterations done, iterations) after every step.
        loss: what is minimised, computed under the recipe's precision.

    Raises:
        TrainingDiverged: the loss is not finite.
        BadInput: no training samples.
    """
    if not len(data):
        raise BadInput("the training set is empty; give at least one sample")
    model.to(data.device).to(memory_format=_order_in_memory(recipe)).train()
    optimizer = _optimizer(model, recipe)
    crops = seeded_generator(seed, "augmentation")
    with seeded(seed, data.device):
        for iteration, rows in enumerate(_sample_order(len(data), recipe, seed)):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate_at(iteration)
            batch = data.batch(rows, recipe.augmentation, crops)
            _step(model, optimizer, batch, recipe, iteration, loss)
            if progress:
                progress(iteration + 1, recipe.iterations)
    return model.to(memory_format=torch.contiguous_format).eval()


def _order_in_memory(recipe: Recipe) -> torch.memory_format:
    return torch.channels_last if recipe.precision == "bfloat16" else torch.preserve_format


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        model.parameters(), lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )


def _sample_order(count: int, recipe: Recipe, seed: int) -> Iterator[Tensor]:
    """Yield the rows of each iteration: permutations, one after the other, cut into batches of full size."""
    generator = seeded_generator(seed, "batches")
    size = min(recipe.batch_size, count)
    waiting = torch.empty(0, dtype=torch.int64)
    for _ in range(recipe.iterations):
        while len(waiting) < size:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        yield waiting[:size]
        waiting = waiting[size:]


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    recipe: Recipe,
    iteration: int,
    loss: Loss,
) -> None:
    x, y = batch
    x = x.to(memory_format=_order_in_memory(recipe))
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        value = loss(model, x, y)
    if not torch.isfinite(value):
        raise TrainingDiverged(
            f"the loss is {value.item()} at iteration {iteration}; lower the learning rate "
            f"({recipe.learning_rate}) or lengthen the warm-up ({recipe.warmup})"
        )
    optimizer.zero_grad(set_to_none=True)
    value.backward()
    optimizer.step()
