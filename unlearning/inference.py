"""Forward passes that check what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..datasets.sources import check_labels
from ..errors import BadInput, NotFinite

Batch = tuple[Tensor, Tensor]
"""Images [N, ...], and their labels, int64 [N]."""
Predicted = tuple[Tensor, Tensor]
"""Predicted classes, and labels, both int64 [N]."""
NO_GRADIENT = (
    "the logits have no gradient with respect to the weights; take torch.no_grad() and detach() out of the "
    "model's forward pass"
)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put ``model`` in eval mode inside the block; afterwards every module is in the mode it was in.

    Raises:
        BadInput: a module stays in training mode.
    """
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        stubborn = [name or type(m).__name__ for name, m in model.named_modules() if m.training]
        if stubborn:
            raise BadInput(
                f"module {stubborn[0]!r} stays in training mode after model.eval(); BatchNorm and dropout "
                f"must be fixed while importances are computed: make its train() method pass the mode on"
            )
        forget_biases(model)
        yield model
    finally:
        forget_biases(model)
        for module, training in modes.items():
            if module.training != training:
                module.train(training)  # some train() methods also undo what eval() did
        for module, training in modes.items():
            module.training = training


def forget_biases(model: nn.Module) -> None:
    """Drop what attention layers of timm (levit, tiny_vit, efficientformer, ...) keep of their biases.

    In eval mode they gather a parameter once, and go on using that when the parameter has changed.
    """
    for module in model.modules():
        cache = getattr(module, "attention_bias_cache", None)
        if isinstance(cache, dict):
            cache.clear()


def first_line(error: Exception) -> str:
    """Return the first line of an error's message that says something, or its class where there is none.

    An error in a worker process of a DataLoader gives the message of the error itself, at its text's end.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if lines[0].startswith("Caught ") and len(lines) > 1 else lines[0]


def check_batch(x: Tensor, what: str) -> None:
    """Refuse inputs [N, ...] that are not finite.

    Raises:
        BadInput: names the first bad sample of the batch.
    """
    if not torch.isfinite(x).all():
        row = int((~torch.isfinite(x)).reshape(len(x), -1).any(1).nonzero()[0])
        raise BadInput(f"{what}: sample {row} of a batch holds NaN or infinite values; clean the images")


def check_targets(y: object, count: int) -> Tensor:
    """Return the labels, if there is one integer a sample; their range is the business of `check_labels`.

    Raises:
        BadInput: anything else, such as one-hot or soft labels.
    """
    if not isinstance(y, Tensor) or y.shape != (count,) or y.is_floating_point() or y.is_complex():
        given = f"{y.dtype} {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
        raise BadInput(f"the labels of {count} samples are {given}; give class numbers, int64 [{count}]")
    return y.long()


def check_labels_of(y: Tensor, classes: int, what: str) -> None:
    """Refuse labels that are no classes of the model.

    Raises:
        BadInput: names the data, the first offending label and its position.
    """
    try:
        check_labels(y, classes)
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from error


def check_logits(logits: object, count: int) -> Tensor:
    """Return the logits, if they are finite and [count, classes].

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
        raise NotFinite("the model returns logits that are NaN or infinite; check its weights and the images")
    return logits


def checked_call(model: nn.Module, x: Tensor, what: str) -> object:
    """Return what the model returns for images [N, ...].

    Raises:
        BadInput: the model cannot take them, or writes into them.
        MemoryError, torch.OutOfMemoryError: as they come.
    """
    version = None if x.is_inference() else x._version
    try:
        returned: object = model(x)
    except (BadInput, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise cannot_take(x, what, error) from error
    if version is not None and x._version != version:
        raise BadInput(
            f"{what}: the model writes into the images it is given; copy them at the beginning of its "
            f"forward pass"
        )
    return returned


def cannot_take(x: Tensor, what: str, error: Exception) -> BadInput:
    """Say of a forward pass over images x that it ended in ``error``."""
    given = f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
    reason = f"{type(error).__name__}: {first_line(error)}"
    return BadInput(f"{what}: the model cannot take images {given} ({reason}); {_remedy(x)}")


def _remedy(x: Tensor) -> str:
    if not x.is_floating_point():
        return "give float images: divided by 255 and normalised as in training"
    if x.ndim == 4 and x.shape[3] in (1, 3, 4) and x.shape[1] not in (1, 3, 4):
        return "channels come first: give [N, channels, height, width], images.permute(0, 3, 1, 2)"
    return "give images of the channels and the size that it was trained with, [N, channels, height, width]"


def predict(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], what: str = "images"
) -> tuple[Tensor, Tensor]:
    """Predict the classes of all samples: classes and labels, both int64 [N] on the CPU, in the order given.

    Runs as `logits_and_labels` does, and raises what that raises.
    """
    return _joined([(logits.argmax(1).cpu(), y) for logits, y in _passes(model, batches, what)])


def logits_and_labels(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], what: str = "images"
) -> tuple[Tensor, Tensor]:
    """Return logits, float32 or better [N, classes], and labels, int64 [N], on the CPU, in the order given.

    Runs in eval mode, in the precision of the weights, and checks every batch; empty batches are passed over.

    Raises:
        BadInput: inputs or logits that are not finite, images that the model cannot take or writes into,
            logits of the wrong shape, labels that are no class numbers or out of range, a model without
            parameters.
    """
    return _joined([(logits.float().cpu(), y) for logits, y in _passes(model, batches, what)])


def _joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    if not parts:
        return torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
    first, second = zip(*parts, strict=True)
    return torch.cat(first), torch.cat(second)


@torch.no_grad()
def _passes(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], what: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield checked logits, on the model's device, and labels, on the CPU, batch by batch."""
    weights = next(model.parameters(), None)
    if weights is None:
        raise BadInput("the model has no parameters; give a trained classifier")
    with evaluating(model):
        for x, y in batches:
            if not len(x):
                continue
            check_batch(x, what)
            y = check_targets(y, len(x)).cpu()
            x = x.to(weights if x.is_floating_point() else weights.device)
            logits = check_logits(checked_call(model, x, what), len(x))
            check_labels_of(y, logits.shape[1], what)
            yield logits, y
