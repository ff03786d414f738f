"""The first pass of a model over the first images of every set, before any work."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...datasets.views import View
from ...errors import BadInput
from ...unlearning.inference import (
    NO_GRADIENT,
    Batch,
    cannot_take,
    check_batch,
    check_labels_of,
    check_logits,
    check_targets,
    evaluating,
)
from ...unlearning.models import seeded
from .behaviour import check_backward
from .held import Held
from .kept_tensors import Kept, give_up, kept_by, left_behind
from .reading import said
from .samples import HeldSamples

TRAINED_ON = 8
"""Samples of the one step that tells whether a model can be trained."""


def first_look(model: nn.Module, sets: Mapping[str, Iterable[Batch]], *, trained: str | None = None) -> int:
    """Check that model and data go together, and make the model fit for all that follows.

    A model that writes into its images gets a copy of them at every pass from now on. One that keeps tensors
    of a pass in its modules (features, attention biases, weights under weight_norm or pruning) gives them up
    after each: they could not be copied with it, or would outlive the weights they are made of. One that
    returns ``logits`` by name, as those of Hugging Face do, returns them alone; one that is trained gets
    images in its own precision.

    Args:
        model: a working copy; hooks are added to it where one of these is needed.
        sets: what the sets are called in error messages -> their batches.
        trained: the one that a few samples are trained on, on a copy, if a method follows that trains.

    Returns:
        The number of classes.

    Raises:
        BadInput: names the set: images that the model cannot take or that are not finite, no logits, labels
            that are no classes of the model (of the whole set, where they are known without reading it).
    """
    if trained and next(model.parameters()).dtype != torch.float32:
        model.register_forward_pre_hook(partial(_in_precision, next(model.parameters()).dtype))
    classes = 0
    for name, batches in sets.items():
        x, y = next(iter(batches))
        check_batch(x, name)
        logits = check_logits(_look(model, x, name), len(x))
        classes = logits.shape[1]
        labels = _labels(batches)
        check_labels_of(check_targets(y, len(x)) if labels is None else labels, classes, name)
        _check_copies(model, x[:2], name)
        if name == trained:
            _train_once(model, x[:TRAINED_ON], y[:TRAINED_ON], name)
    return classes


def _labels(batches: object) -> Tensor | None:
    return batches.labels if isinstance(batches, View | Held | HeldSamples) else None


def _look(model: nn.Module, x: Tensor, name: str) -> object:
    with torch.no_grad(), evaluating(model):
        return _adapted(model, x, name)


def _adapted(model: nn.Module, x: Tensor, name: str) -> object:
    """Return what the model returns; its hooks are added if it needs any."""
    weights = next(model.parameters())
    given = x.to(weights if x.is_floating_point() else weights.device)
    passed, before = given.clone(), kept_by(model)
    version = passed._version
    try:
        returned: object = model(passed)
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise cannot_take(x, name, error) from error
    if passed._version != version or not torch.equal(passed, given):  # .data leaves no version
        model.register_forward_pre_hook(_own_images, prepend=True)
    if left_behind(before, kept_by(model)):
        model.register_forward_hook(partial(_given_up, before))
        give_up(model, before)
    if not isinstance(returned, Tensor) and isinstance(logits := _logits_of(returned), Tensor):
        model.register_forward_hook(_logits_alone)
        return logits
    return returned


def _check_copies(model: nn.Module, x: Tensor, name: str) -> None:
    """Refuse a model that keeps results of a pass where they are not found: it could not be copied later."""
    with torch.enable_grad(), evaluating(model):
        _adapted(model, x, name)
    try:
        copy.deepcopy(model)
    except Exception as error:
        raise BadInput(
            f"the model cannot be copied after a forward pass ({said(error)}); detach() the results that it "
            f"keeps, or keep none"
        ) from error


def _train_once(model: nn.Module, x: Tensor, y: Tensor, name: str) -> None:
    """Run one forward and backward pass in training mode, on a copy."""
    trained = copy.deepcopy(model).train().requires_grad_(True)
    hooks = len(trained._forward_pre_hooks), len(trained._forward_hooks)
    with seeded(0, x.device):
        logits = check_logits(_adapted(trained, x, name), len(x))
        if (len(trained._forward_pre_hooks), len(trained._forward_hooks)) != hooks:
            model._forward_pre_hooks.update(trained._forward_pre_hooks)
            model._forward_hooks.update(trained._forward_hooks)
        if not logits.requires_grad:
            raise BadInput(NO_GRADIENT)
        check_backward(trained, (x, y), name, training=True)


def _given_up(before: Kept, model: nn.Module, _: object, __: object) -> None:
    give_up(model, before)


def _own_images(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(one.clone() if isinstance(one, Tensor) else one for one in given)


def _in_precision(dtype: torch.dtype, _: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        one.to(dtype) if isinstance(one, Tensor) and one.is_floating_point() else one for one in given
    )


def _logits_alone(_: nn.Module, __: tuple[Any, ...], returned: Any) -> Any:
    return returned if isinstance(returned, Tensor) else _logits_of(returned)


def _logits_of(returned: object) -> object:
    """Return the logits of an output that names them; None where it names none."""
    if isinstance(returned, Mapping):
        return returned.get("logits")
    return getattr(returned, "logits", None)
