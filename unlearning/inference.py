"""Forward passes that check what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..datasets.images import check_labels
from ..errors import BadInput


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """``model`` in eval mode inside the block; afterwards every module is in the mode it was in.

    Raises:
        BadInput: a module stays in training mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        stubborn = [name or type(m).__name__ for name, m in model.named_modules() if m.training]
        if stubborn:
            raise BadInput(
                f"module {stubborn[0]!r} stays in training mode after model.eval(); BatchNorm and dropout "
                f"must be fixed while importances are computed: make its train() method pass the mode on"
            )
        yield model
    finally:
        for module, training in modes.items():
            module.training = training


def check_batch(x: Tensor, what: str) -> None:
    """Refuse inputs that are not finite.

    Raises:
        BadInput: names the first bad sample of the batch.
    """
    if not torch.isfinite(x).all():
        row = int((~torch.isfinite(x)).flatten(1).any(1).nonzero()[0])
        raise BadInput(f"{what}: sample {row} of a batch holds NaN or infinite values; clean the images")


def check_logits(logits: object, count: int) -> Tensor:
    """The logits, if they are finite and [count, classes].

    Raises:
        BadInput: anything else.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != count or logits.shape[1] < 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise BadInput(
            f"the model returns {shape} for {count} images; it must return logits [{count}, classes], two "
            f"classes or more: wrap it so that it returns only those"
        )
    if not torch.isfinite(logits).all():
        raise BadInput("the model returns logits that are NaN or infinite; check its weights and the images")
    return logits


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], what: str = "images"
) -> tuple[Tensor, Tensor]:
    """Predicted classes and labels of all samples, both int64 [N] on the CPU, in the order given.

    Runs in eval mode and checks every batch.

    Raises:
        BadInput: inputs or logits that are not finite, logits of the wrong shape, a label out of range.
    """
    predictions, labels = [], []
    weights = next(model.parameters())
    with evaluating(model):
        for x, y in batches:
            check_batch(x, what)
            x = x.to(weights if x.is_floating_point() else weights.device)
            logits = check_logits(model(x), len(x))
            check_labels(y.cpu(), logits.shape[1])
            predictions.append(logits.argmax(1).cpu())
            labels.append(y.cpu())
    if not predictions:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    return torch.cat(predictions), torch.cat(labels)
