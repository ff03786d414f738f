"""A perturbation for all images: found by gradient ascent in pixels, kept in a ball, added to a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..inference import Batch
from ..models import sound_batch_norm

Norm = Literal["l2", "linf", "range"]
Labels = Literal["true", "predicted"]
Projection = Literal["every_step", "end", "never"]


def project(delta: Tensor, norm: Norm, bound: float) -> Tensor:
    """Project to the nearest perturbation with ||delta|| <= bound; "range" only asks for values in -1..1."""
    if norm == "l2":
        return delta * min(1.0, bound / max(float(delta.norm()), 1e-30))
    limit = bound if norm == "linf" else 1.0
    return delta.clamp(-limit, limit)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixels:
    """Adds perturbations, which are in pixels of [0, 1], to normalised images x = (pixels - mean) / std.

    Attributes:
        mean, std: of the normalisation, [1, C, 1, 1].
        clamp: keep the sum within [0, 1], as an image would be.
    """

    mean: Tensor
    std: Tensor
    clamp: bool

    @staticmethod
    def of(mean: tuple[float, ...], std: tuple[float, ...], clamp: bool, like: Tensor) -> Pixels:
        """Make `Pixels` from a normalisation, on the device and in the dtype of ``like``."""
        shape = (1, -1, 1, 1)
        return Pixels(
            mean=like.new_tensor(mean).view(shape), std=like.new_tensor(std).view(shape), clamp=clamp
        )

    def add(self, x: Tensor, delta: Tensor) -> Tensor:
        """Add ``delta`` ([1 or N, C, H, W]) to normalised images, all of them; differentiable in delta."""
        if not self.clamp:
            return x + delta / self.std
        return ((x * self.std + self.mean + delta).clamp(0, 1) - self.mean) / self.std


@dataclass(frozen=True, kw_only=True)
class Ascent:
    """How a perturbation is found; the names are those of `IBAU`.

    Attributes:
        norm, bound: see `project`.
        projection: when it is projected.
        optimizer: "sgd", "adam", or "unit": steps of length ``learning_rate`` along the gradient.
        learning_rate: of that optimiser, in pixels (sgd: pixels^2 per unit of loss).
        steps: one batch each, in turn and over again; None = each batch once.
        labels: the loss is that of the true labels, or of the model's own predictions without delta.
        penalty: of ||delta||^2.
    """

    norm: Norm
    bound: float
    projection: Projection
    optimizer: Literal["sgd", "adam", "unit"]
    learning_rate: float
    steps: int | None
    labels: Labels
    penalty: float


def spread(delta: Tensor, count: int) -> Tensor:
    """Give image i of ``count`` the delta i modulo P of [P, C, H, W]."""
    if len(delta) == 1:
        return delta
    return delta[torch.arange(count, device=delta.device) % len(delta)]


def inner_loss(model: nn.Module, batch: Batch, delta: Tensor, pixels: Pixels, penalty: float) -> Tensor:
    """Compute what ``delta`` [P, C, H, W] MAXIMISES.

    With P = 1 the mean cross-entropy of the batch with delta on every image, less penalty * ||delta||^2; with
    more, the sum over deltas of that, each on its share of the batch.
    """
    x, y = batch
    with sound_batch_norm(model):
        logits = model(pixels.add(x, spread(delta, len(x))))
    loss = F.cross_entropy(logits, y)
    return len(delta) * loss - penalty * delta.pow(2).sum()


def ascend(
    model: nn.Module, batches: Sequence[Batch], ascent: Ascent, pixels: Pixels
) -> tuple[Tensor, float, float]:
    """Find a perturbation from zero: (delta [1, C, H, W], its norm before the last projection, last loss).

    Args:
        model: in the mode it shall be attacked in; not changed.
        batches: normalised images and labels.
        ascent: see the class.
        pixels: see the class.
    """
    delta = torch.zeros_like(batches[0][0][:1])
    delta.requires_grad_()
    optimizer = _OPTIMIZERS[ascent.optimizer](delta, ascent.learning_rate)
    loss = torch.zeros(())
    for step in range(len(batches) if ascent.steps is None else ascent.steps):
        batch = attacked(model, batches[step % len(batches)], ascent.labels)
        loss = inner_loss(model, batch, delta, pixels, ascent.penalty)
        (slope,) = torch.autograd.grad(loss, delta)
        optimizer(slope)
        if ascent.projection == "every_step":
            with torch.no_grad():
                delta.copy_(project(delta, ascent.norm, ascent.bound))
    free = delta.detach()
    ended = free if ascent.projection == "never" else project(free, ascent.norm, ascent.bound)
    return ended, float(free.norm()), float(loss.detach())


@torch.no_grad()
def attacked(model: nn.Module, batch: Batch, labels: Labels) -> Batch:
    """Return the batch under the labels that the perturbation is to drive the model away from."""
    return batch if labels == "true" else (batch[0], model(batch[0]).argmax(1))


@torch.no_grad()
def accuracy_under(model: nn.Module, batches: Iterable[Batch], delta: Tensor | None, pixels: Pixels) -> float:
    """Return the share of labels that the model predicts with ``delta`` on every image (None: without)."""
    hits = total = 0
    for x, y in batches:
        hits += int(
            (model(x if delta is None else pixels.add(x, spread(delta, len(x)))).argmax(1) == y).sum()
        )
        total += len(y)
    return hits / total


Step = Callable[[Tensor], None]


def _by_torch(optimizer: torch.optim.Optimizer, delta: Tensor) -> Step:
    def step(slope: Tensor) -> None:
        delta.grad = -slope
        optimizer.step()

    return step


def _by_unit_steps(delta: Tensor, length: float) -> Step:
    @torch.no_grad()
    def step(slope: Tensor) -> None:
        delta.add_(slope, alpha=length / max(float(slope.norm()), 1e-30))

    return step


_OPTIMIZERS: dict[str, Callable[[Tensor, float], Step]] = {
    "sgd": lambda delta, rate: _by_torch(torch.optim.SGD([delta], lr=rate), delta),
    "adam": lambda delta, rate: _by_torch(torch.optim.Adam([delta], lr=rate), delta),
    "unit": _by_unit_steps,
}
