"""Exact unlearning (EU): train again from scratch without what is to be forgotten."""

from __future__ import annotations

from torch import nn

from ..datasets.views import View
from .models import ModelSpec, create_model
from .training import Progress, Recipe, train


def train_from_scratch(
    spec: ModelSpec,
    data: View,
    recipe: Recipe,
    *,
    seed: int,
    num_classes: int,
    progress: Progress | None = None,
) -> nn.Module:
    """Train a model of architecture ``spec`` on ``data``: the victim on S_tr, EU on retain.

    EU is trained with the victim's recipe and seed. On retain at a discovery share below 1 the
    undiscovered poison comes back; at share 1 it gives the reference of ``healed``.

    Args:
        spec: the architecture.
        data: the training samples, (x, y) with labels in [0, num_classes).
        recipe: that of the victim.
        seed: of the initial weights, the order of the samples and their augmentation.
        num_classes: K of the logits [N, K].
        progress: called with (iterations done, iterations in all).

    Returns:
        The model in eval mode, on the device of ``data``.
    """
    model = create_model(spec, num_classes=num_classes, shape=data.source.shape, seed=seed)
    return train(model, data, recipe, seed=seed, progress=progress)
