"""Whether a model gives the same images the same answer, and stays what it is while it does."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...errors import BadInput
from ...unlearning.inference import Batch, cannot_take, evaluating, logits_and_labels
from .reading import said

log = logging.getLogger(__name__)

LOOKED_AT = 16
PASSES = 3
"""So often the images are passed again: a model may draw one number for all, which may come out the same."""
FEWEST = 4
"""Images of a batch from which on half of them are passed without the others."""
ROUNDING = 1e-3
"""Part of the largest logit by which two passes may differ: kernels add in another order."""


def check_behaviour(model: nn.Module, sets: Mapping[str, Iterable[Batch]]) -> tuple[str, ...]:
    """Pass the first images of every set again, alone, and backwards.

    Args:
        model: a working copy that `first_look` has accepted.
        sets: what the sets are called in error messages -> their batches.

    Returns:
        What is in doubt; it is logged, too.

    Raises:
        BadInput: the model changes its own state in eval mode, gives different answers to the same images, or
            its backward pass fails.
    """
    doubts: list[str] = []
    for name, batches in sets.items():
        x, y = next(iter(batches))
        doubt = _check_passes(model, x, y, name)
        if doubt and not doubts:
            doubts.append(doubt)
            log.warning("%s", doubt)
        check_backward(copy.deepcopy(model), (x[:2], y[:2]), name)
    return tuple(doubts)


def _check_passes(model: nn.Module, x: Tensor, y: Tensor, name: str) -> str | None:
    """Compare the logits of some images with those of a second pass, and with those in a larger batch."""
    whole, count = _logits(model, x, y, name), len(x)
    part = slice(min(LOOKED_AT, count // 2 if count >= FEWEST else count))
    state = _state(model)
    alone = _logits(model, x[part], y[part], name)
    again = [_logits(model, x[part], y[part], name) for _ in range(PASSES)]
    changed = _changed(state, _state(model))
    if changed is not None:
        raise BadInput(
            f"the model changes its own {changed!r} at every forward pass, in eval mode, too, so that it is "
            f"another model after it; make it do so in training mode alone (if self.training)"
        )
    if (apart := max(_apart(alone, one) for one in again)) > 0:
        raise BadInput(
            f"the model gives different outputs for the same images in eval mode (logits up to {apart:.3g} "
            f"apart); make it draw no random numbers outside training: dropout(..., "
            f"training=self.training), no random crops or noise, no counters"
        )
    if (apart := _apart(alone, whole[part])) > 0:
        return (
            f"the model's predictions depend on which images share a batch (logits up to {apart:.3g} apart "
            f"in batches of {count} and {len(alone)}), such as by BatchNorm without running statistics: what "
            f"is reported holds for batches as they are here, and may not hold where the model is used"
        )
    return None


def _logits(model: nn.Module, x: Tensor, y: Tensor, name: str) -> Tensor:
    logits, _ = logits_and_labels(model, [(x, y)], name)
    return logits


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference; 0 where that is rounding."""
    apart = float((one - other).abs().max())
    return apart if apart > ROUNDING * float(other.abs().max()) else 0.0


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: one.detach().clone() for name, one in (*model.named_parameters(), *model.named_buffers())}


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> str | None:
    """Name the first tensor with other values; what is made or resized, as caches are, counts as none."""
    for name, one in before.items():
        other = after.get(name)
        if other is not None and other.shape == one.shape and not torch.equal(one, other):
            return name
    return None


def check_backward(model: nn.Module, batch: Batch, name: str, *, training: bool = False) -> None:
    """Run a backward pass through a model that may be spoilt; one whose logits have no gradient passes.

    Args:
        model: in training mode if ``training``.
        batch: images and labels.
        name: of their set.
        training: whether the pass is one of training.

    Raises:
        BadInput: it fails, as a backward hook does that raises.
    """
    where = f"{name}, in training" if training else name
    model.requires_grad_(True)
    if training:
        loss = _loss(model, batch, where)
    else:
        with evaluating(model):
            loss = _loss(model, batch, where)
    if loss.requires_grad:
        _backward(loss, where)


def _loss(model: nn.Module, batch: Batch, name: str) -> Tensor:
    x, y = batch
    weights = next(model.parameters())
    try:
        with torch.enable_grad():
            logits = model(x.to(weights if x.is_floating_point() else weights.device).clone())
            return F.cross_entropy(logits.float(), y)
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise cannot_take(x, name, error) from error


def _backward(loss: Tensor, name: str) -> None:
    try:
        loss.backward()
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise BadInput(
            f"{name}: the model's backward pass fails ({said(error)}); take off the backward hook that "
            f"raises this, or correct the backward of the autograd function"
        ) from error
