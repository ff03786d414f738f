"""How sensitive a model is to each of its parameters, averaged over a set of samples.

With f(x) the logits of a sample, its sensitivity to parameter i is
    fim   (d CE(f(x), y) / d theta_i)^2         Selective Synaptic Dampening: the Fisher diagonal
    lf    |d ||f(x)||_2^2 / d theta_i|          Potion eq. 3
    xlf   |d ||f(x)||_2^w / d theta_i|, w = 1   Potion eq. 4
The model is in eval mode, the arithmetic at least float32, and all named parameters take part.

Granularity "sample" averages the sensitivities of single samples, as the papers write. Granularity "batch"
averages those of batch means (the gradient of the mean loss of a batch), as the authors' programs do; the
boundaries of the batches are then part of the result, and a short last batch weighs as much as a full one.
They are different methods. Published numbers need "batch" with batches of 512.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from ..datasets.images import check_labels
from ..errors import BadInput
from .importance_sums import Importance
from .inference import check_batch, check_logits, evaluating
from .kinds import GRANULARITIES, KINDS, Granularity, Kind

__all__ = ["KINDS", "Granularity", "Importance", "Kind", "estimate_importance"]

LossPerSample = Callable[[Tensor, Tensor], Tensor]
PerSampleGradients = Callable[[Mapping[str, Tensor], Tensor, Tensor], dict[str, Tensor]]

CHUNK_BYTES = 256 << 20
LARGEST_CHUNK = 64

logger = logging.getLogger(__name__)


def estimate_importance(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    kind: Kind = "xlf",
    granularity: Granularity = "sample",
    exponent: float | None = None,
    chunk_size: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Importance:
    """Importances of all named parameters over ``batches``.

    Args:
        model: returns logits [N, classes]; left exactly as it was.
        batches: (x, y) with y int64 [N] (only "fim" uses y), in a fixed order, not augmented.
        kind: see the module.
        granularity: see the module.
        exponent: the power w of the norm for "xlf" (default 1, in (0, 16]); not for the other kinds.
        chunk_size: samples whose gradients are held at once ("sample" only); default: 256 MiB of gradients,
            at most 64 samples.
        progress: called with the number of samples done.

    Returns:
        Sums over samples (or batches) with their count, on the model's device.

    Raises:
        BadInput: no samples, unknown kind or granularity, values that are not finite, labels out of range.
    """
    power = _power(kind, granularity, exponent)
    if chunk_size is not None and chunk_size < 1:
        raise BadInput(f"chunk_size {chunk_size}: give a whole number of samples, 1 or more")
    with evaluating(model):
        pass_ = _Pass(model, power, chunk_size)
        done = 0
        for x, y in batches:
            if len(x):
                pass_.add(x, y, granularity)
            done += len(x)
            if progress:
                progress(done)
    return pass_.result(kind, granularity)


def _power(kind: str, granularity: str, exponent: float | None) -> float | None:
    if kind not in KINDS:
        raise BadInput(f"unknown importance {kind!r}; choose from {', '.join(KINDS)}")
    if granularity not in GRANULARITIES:
        raise BadInput(f"unknown granularity {granularity!r}; choose from {', '.join(GRANULARITIES)}")
    if exponent is None:
        return KINDS[kind]
    if kind != "xlf" or not 0 < exponent <= 16:
        raise BadInput(f"exponent {exponent} with {kind!r}: only xlf takes an exponent, in (0, 16]")
    return float(exponent)


class _Pass:
    """One traversal of the data: working copies of the weights, and the running sums."""

    def __init__(self, model: nn.Module, power: float | None, chunk_size: int | None) -> None:
        self.model = model
        self.parameters = {name: _working(p).requires_grad_() for name, p in model.named_parameters()}
        if not self.parameters:
            raise BadInput("the model has no parameters; there is nothing to dampen")
        self.buffers = {name: _working(b) for name, b in model.named_buffers()}
        self.loss = _cross_entropy if power is None else _norm_power(power)
        self.squared = power is None
        self.chunk_size = chunk_size or _default_chunk(self.parameters)
        self.out_of_memory = False
        self.gradients = self._vectorised
        self.total = {name: _zeros_for_sums(p) for name, p in self.parameters.items()}
        self.count = 0

    def add(self, x: Tensor, y: Tensor, granularity: str) -> None:
        first = next(iter(self.parameters.values()))
        x, y = x.to(first.device), y.to(first.device)
        x = x.to(first.dtype) if x.is_floating_point() else x
        check_batch(x, "importance data")
        if granularity == "batch":
            self._add_batch(x, y)
        else:
            self._add_chunks(x, y)

    def result(self, kind: Kind, granularity: Granularity) -> Importance:
        if not self.count:
            raise BadInput("importances of an empty set; give at least one sample")
        for name, total in self.total.items():
            if not torch.isfinite(total).all():
                raise BadInput(
                    f"the {kind} importance of {name!r} is not finite; check the weights and the images"
                )
        return Importance(total=self.total, count=self.count, kind=kind, granularity=granularity)

    def _logits(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.model, {**parameters, **self.buffers}, (x,))
        return logits

    def _add_batch(self, x: Tensor, y: Tensor) -> None:
        logits = check_logits(self._logits(self.parameters, x), len(x))
        loss = self.loss(logits, self._labels(y, logits)).mean()
        names = list(self.parameters)
        gradients = torch.autograd.grad(loss, [self.parameters[n] for n in names], allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:
                self.total[name] += gradient.square() if self.squared else gradient.abs()
        self.count += 1

    def _add_chunks(self, x: Tensor, y: Tensor) -> None:
        """Chunk by chunk; a chunk that does not fit into memory is halved and tried again."""
        start = 0
        while start < len(x):
            stop = start + self.chunk_size
            try:
                self._add_samples(x[start:stop], y[start:stop])
                start = stop
            except torch.OutOfMemoryError:
                self._halve_chunk()

    def _halve_chunk(self) -> None:
        if self.chunk_size == 1:
            raise BadInput(
                "out of memory with the gradients of a single sample; use a device with more memory, or "
                "granularity 'batch' with small batches"
            )
        if not self.out_of_memory:
            logger.warning("out of memory with %d samples at once; going on with fewer", self.chunk_size)
        self.out_of_memory = True
        self.chunk_size //= 2

    def _add_samples(self, x: Tensor, y: Tensor) -> None:
        if not self.count:
            with torch.no_grad():
                check_logits(self._logits(self.parameters, x[:1]), 1)
        for name, gradient in self.gradients(self.parameters, x, y).items():
            sizes = gradient.square_() if self.squared else gradient.abs_()
            self.total[name] += sizes.sum(0)
        self.count += len(x)

    def _labels(self, y: Tensor, logits: Tensor) -> Tensor:
        if self.squared:
            check_labels(y, logits.shape[1])
        return y

    def _sample_loss(self, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = self._logits(parameters, x[None])
        return self.loss(logits, y[None])[0]

    def _vectorised(self, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Gradients of each sample, [n, *shape] a parameter; falls back, and says so once."""
        if self.squared:
            with torch.no_grad():
                self._labels(y, self._logits(parameters, x))
        detached = {name: p.detach() for name, p in parameters.items()}
        try:
            gradients: dict[str, Tensor] = vmap(grad(self._sample_loss), (None, 0, 0))(detached, x, y)
            return gradients
        except (RuntimeError, NotImplementedError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            logger.warning(
                "%s cannot be vectorised over samples (%s); its importances are computed sample by sample, "
                "which gives the same result more slowly",
                type(self.model).__name__,
                str(error).splitlines()[0],
            )
            self.gradients = self._one_by_one
            return self._one_by_one(parameters, x, y)

    def _one_by_one(self, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
        names = list(parameters)
        rows = []
        for xi, yi in zip(x, y, strict=True):
            loss = self._sample_loss(parameters, xi, yi)
            rows.append(torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True))
        return {
            name: torch.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
        }


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _norm_power(power: float) -> LossPerSample:
    """||f||_2^w per sample, with gradient 0 (not NaN) where f = 0."""

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        if power == 2.0:
            return logits.square().sum(1)
        squares = logits.square().sum(1)
        nonzero = squares > 0
        safe = torch.where(nonzero, squares, torch.ones_like(squares))
        return torch.where(nonzero, safe ** (power / 2), torch.zeros_like(safe))

    return loss


def _working(tensor: Tensor) -> Tensor:
    """A detached tensor of at least float32 (half precision is widened, integers stay)."""
    detached = tensor.detach()
    if detached.is_floating_point() and detached.dtype not in (torch.float32, torch.float64):
        return detached.float()
    return detached.clone()


def _zeros_for_sums(parameter: Tensor) -> Tensor:
    """Sums run in float64, so that a million samples lose no digits; MPS has only float32."""
    dtype = torch.float32 if parameter.device.type == "mps" else torch.float64
    return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)


def _default_chunk(parameters: Mapping[str, Tensor]) -> int:
    size = sum(p.numel() * p.element_size() for p in parameters.values())
    return max(1, min(LARGEST_CHUNK, CHUNK_BYTES // size))
