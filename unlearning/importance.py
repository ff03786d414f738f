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
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..datasets.images import check_labels
from ..errors import BadInput
from .importance_sums import Importance
from .inference import check_batch, check_logits, check_targets, evaluating, first_line
from .kinds import GRANULARITIES, KINDS, Granularity, Kind

__all__ = ["KINDS", "Granularity", "Importance", "Kind", "estimate_importance"]

LossPerSample = Callable[[Tensor, Tensor], Tensor]

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
        batches: (x, y) with y int64 [N] (only "fim" looks at the numbers), in a fixed order, not augmented.
            Empty batches are passed over.
        kind: see the module.
        granularity: see the module.
        exponent: the power w of the norm for "xlf" (default 1, in (0, 16]); not for the other kinds.
        chunk_size: samples that are worked on at once; only rounding depends on it. Default for "sample": 256
            MiB of gradients, at most 64 samples; for "batch": the whole batch. Halved when memory runs out.
        progress: called with the number of samples done.

    Returns:
        Sums over samples (or batches) with their count, on the model's device. Where the norm is 0, its
        gradient counts as 0.

    Raises:
        BadInput: no samples, unknown kind or granularity, values that are not finite, labels out of range,
            a model that returns no logits, cuts their gradient or cannot be put in eval mode, or memory too
            small for one sample.
    """
    power = _power(kind, granularity, exponent)
    if chunk_size is not None and chunk_size < 1:
        raise BadInput(f"chunk_size {chunk_size}: give a whole number of samples, 1 or more")
    with evaluating(model):
        pass_ = _Pass(model, power, granularity, chunk_size)
        done = 0
        for x, y in batches:
            if len(x):
                pass_.add(x, y)
            done += len(x)
            if progress:
                progress(done)
    return pass_.result(kind, granularity, None if power == KINDS[kind] else power)


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

    def __init__(
        self, model: nn.Module, power: float | None, granularity: Granularity, chunk_size: int | None
    ) -> None:
        if isinstance(model, (torch.jit.ScriptModule, nn.DataParallel)):
            raise BadInput(
                f"the model is a {type(model).__name__}, which cannot be called with other weights; give the "
                f"plain module inside DataParallel, or the one that was scripted or traced"
            )
        self.model = model
        self.parameters = {name: _trainable(name, p) for name, p in model.named_parameters()}
        if not self.parameters:
            raise BadInput("the model has no parameters; there is nothing to dampen")
        self.buffers = {name: _working(b) for name, b in model.named_buffers()}
        self.loss = _cross_entropy if power is None else _norm_power(power)
        self.squared = power is None
        self.by_sample = granularity == "sample"
        self.chunk_size = chunk_size or (_default_chunk(self.parameters) if self.by_sample else sys.maxsize)
        self.out_of_memory = False
        self.gradients = self._vectorised
        self.classes: int | None = None
        self.total = {name: _zeros_for_sums(p) for name, p in self.parameters.items()}
        self.count = 0

    def add(self, x: Tensor, y: Tensor) -> None:
        first = next(iter(self.parameters.values()))
        y = check_targets(y, len(x)).to(first.device)
        x = x.to(first if x.is_floating_point() else first.device)
        check_batch(x, "importance data")
        if self.classes is None:
            self.classes = self._count_classes(x[:1])
        if self.squared:
            check_labels(y, self.classes)
        if self.by_sample:
            self._add_samples(x, y)
        else:
            self._add_batch(x, y)

    def result(self, kind: Kind, granularity: Granularity, exponent: float | None) -> Importance:
        if not self.count:
            raise BadInput("importances of an empty set; give at least one sample")
        for name, total in self.total.items():
            if not torch.isfinite(total).all():
                raise BadInput(
                    f"the {kind} importance of {name!r} is not finite; check the weights and the images"
                )
        return Importance(
            total=self.total, count=self.count, kind=kind, granularity=granularity, exponent=exponent
        )

    def _logits(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.model, {**parameters, **self.buffers}, (x,))
        return logits

    def _count_classes(self, x: Tensor) -> int:
        """From one sample, so that a model that cannot be used is told before any long work."""
        with torch.enable_grad():
            logits = check_logits(self._logits(self.parameters, x), len(x))
        if not logits.requires_grad:
            raise BadInput(
                "the logits have no gradient with respect to the weights; take torch.no_grad() and detach() "
                "out of the model's forward pass"
            )
        return logits.shape[1]

    def _add_batch(self, x: Tensor, y: Tensor) -> None:
        gradients = self._mean_gradients(x, y)
        while gradients is None:
            gradients = self._mean_gradients(x, y)
        for name, gradient in gradients.items():
            self.total[name] += self._sizes(gradient)
        self.count += 1

    def _mean_gradients(self, x: Tensor, y: Tensor) -> dict[str, Tensor] | None:
        """Gradients of the mean loss, summed over chunks; None if that did not fit into memory."""
        gradients: dict[str, Tensor] = {}
        try:
            for xs, ys in self._chunks(x, y):
                for name, gradient in self._gradients_of_sum(xs, ys, len(x)).items():
                    gradients[name] = gradients[name] + gradient if name in gradients else gradient
        except torch.OutOfMemoryError:
            self._take_smaller_chunks(len(x))
            return None
        return gradients

    def _gradients_of_sum(self, x: Tensor, y: Tensor, count: int) -> dict[str, Tensor]:
        with torch.enable_grad():
            loss = self.loss(check_logits(self._logits(self.parameters, x), len(x)), y).sum() / count
        values = torch.autograd.grad(loss, list(self.parameters.values()), materialize_grads=True)
        return dict(zip(self.parameters, values, strict=True))

    def _add_samples(self, x: Tensor, y: Tensor) -> None:
        """Chunk by chunk; a chunk that does not fit into memory is tried again in smaller ones."""
        while len(x):
            chunk = x[: self.chunk_size]
            try:
                sums = self._sums(chunk, y[: len(chunk)])
            except torch.OutOfMemoryError:
                self._take_smaller_chunks(len(chunk))
                continue
            for name, value in sums.items():
                self.total[name] += value
            self.count += len(chunk)
            x, y = x[len(chunk) :], y[len(chunk) :]

    def _sums(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {name: self._sizes(gradient).sum(0) for name, gradient in self.gradients(x, y).items()}

    def _sizes(self, gradient: Tensor) -> Tensor:
        # never in place: autograd gives two parameters that are added to each other the same tensor
        return gradient.square() if self.squared else gradient.abs()

    def _chunks(self, x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        size = min(self.chunk_size, len(x))
        return zip(x.split(size), y.split(size), strict=True)

    def _take_smaller_chunks(self, count: int) -> None:
        tried = min(self.chunk_size, count)
        if tried == 1:
            raise BadInput(
                "out of memory with the gradients of a single sample; use a device with more memory, or "
                "the CPU"
            )
        if not self.out_of_memory:
            logger.warning("out of memory with %d samples at once; going on with fewer", tried)
        self.out_of_memory = True
        self.chunk_size = tried // 2

    def _sample_loss(self, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = self._logits(parameters, x[None])
        return self.loss(logits, y[None])[0]

    def _vectorised(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Gradients of each sample, [n, *shape] a parameter; falls back, and says so once."""
        detached = {name: p.detach() for name, p in self.parameters.items()}
        try:
            with sdpa_kernel(SDPBackend.MATH):  # vmap only loops over the fused kernels, and warns of it
                gradients: dict[str, Tensor] = vmap(grad(self._sample_loss), (None, 0, 0))(detached, x, y)
            return gradients
        except (RuntimeError, NotImplementedError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            logger.warning(
                "%s cannot be vectorised over samples (%s); its importances are computed sample by sample, "
                "which gives the same result more slowly",
                type(self.model).__name__,
                first_line(error),
            )
        self.gradients = self._one_by_one
        return self._one_by_one(x, y)

    def _one_by_one(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        rows = [self._gradients_of_sum(x[i : i + 1], y[i : i + 1], 1) for i in range(len(x))]
        return {name: torch.stack([row[name] for row in rows]) for name in self.parameters}


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


def _trainable(name: str, parameter: Tensor) -> Tensor:
    if not parameter.is_floating_point():
        raise BadInput(
            f"parameter {name!r} is {parameter.dtype}: a quantised model has no gradients; give the model as "
            f"it was before quantisation"
        )
    return _working(parameter).requires_grad_()


def _zeros_for_sums(parameter: Tensor) -> Tensor:
    """Sums run in float64, so that a million samples lose no digits; MPS has only float32."""
    dtype = torch.float32 if parameter.device.type == "mps" else torch.float64
    return torch.zeros_like(parameter, dtype=dtype, requires_grad=False)


def _default_chunk(parameters: Mapping[str, Tensor]) -> int:
    size = sum(p.numel() * p.element_size() for p in parameters.values())
    return max(1, min(LARGEST_CHUNK, CHUNK_BYTES // max(1, size)))
