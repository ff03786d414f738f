"""A model as importances see it: detached weights of at least float32, checked inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ...datasets.sources import check_labels
from ...errors import BadInput
from ..inference import NO_GRADIENT, cannot_take, check_batch, check_logits, check_targets
from ..kinds import Granularity
from ..models import differentiable
from ..precision import arithmetic_for


class WorkingModel:
    """Weights and buffers of a model, apart from it; the model itself is left exactly as it was.

    Args:
        model: in eval mode, and kept in it while this is used.
        precision: of forward and backward passes.
        granularity: "batch" in float32 keeps the order of memory that published numbers were computed in:
            the highest ratios of batch means hang on rounding.

    Attributes:
        parameters: name -> detached value; half precision is widened to float32. Matrices of 4 dimensions are
            channels last where the model has convolutions whose windows overlap, unless PyTorch has a fault
            there: convolutions in that order took 0.7 to 0.8 of the time. Only rounding depends on it.
        buffers: likewise.
        arithmetic: what ``precision`` means here.

    Raises:
        BadInput: no parameters, quantised ones, a wrapper that hides them, or a precision that the device or
            the weights do not allow.
    """

    def __init__(
        self, model: nn.Module, precision: str = "float32", *, granularity: Granularity = "sample"
    ) -> None:
        if isinstance(model, torch.jit.ScriptModule | nn.DataParallel):
            raise BadInput(
                f"the model is a {type(model).__name__}, which cannot be called with other weights; give the "
                f"plain module inside DataParallel, or the one that was scripted or traced"
            )
        self.model = model
        self.parameters = {name: _value(name, p) for name, p in model.named_parameters()}
        if not self.parameters:
            raise BadInput(
                "the model has no parameters; there is nothing to dampen: give a trained classifier"
            )
        self.buffers = {name: _widened(b) for name, b in model.named_buffers()}
        self.classes: int | None = None
        self.arithmetic = arithmetic_for(precision, self.device, next(iter(self.parameters.values())).dtype)
        published = granularity == "batch" and precision == "float32"
        self._arrange(torch.channels_last if not published and self._overlaps() else torch.contiguous_format)

    @property
    def device(self) -> torch.device:
        """Return the device of the first parameter."""
        return next(iter(self.parameters.values())).device

    def zeros(self) -> dict[str, Tensor]:
        """Return sums to begin with: float64, so that a million samples lose no digits (MPS: float32)."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return {
            name: torch.zeros(p.shape, dtype=dtype, device=p.device) for name, p in self.parameters.items()
        }

    def accept(self, x: Tensor, y: Tensor, *, check_numbers: bool) -> tuple[Tensor, Tensor]:
        """Return the batch on the model's device and in its dtype.

        Args:
            x: images or token numbers.
            y: labels, int64 [n].
            check_numbers: whether labels must be classes of the model.

        Raises:
            BadInput: values that are not finite, labels of the wrong shape or out of range, no logits.
        """
        first = next(iter(self.parameters.values()))
        y = check_targets(y, len(x)).to(first.device)
        x = x.to(first if x.is_floating_point() else first.device)
        check_batch(x, "importance data")
        if self.classes is None:
            self.classes = self._count_classes(x[:1])
        if check_numbers:
            check_labels(y, self.classes)
        return x, y

    def logits(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Compute the logits of ``x`` with other values for the parameters, and check them."""
        with self.arithmetic.autocast(self.device), differentiable(self.model):
            logits = functional_call(self.model, {**parameters, **self.buffers}, (x,))
        if isinstance(logits, Tensor):
            logits = self.arithmetic.widened(logits)
        return check_logits(logits, len(x))

    def arranged(self, x: Tensor) -> Tensor:
        """Return the same images in the order of memory that suits the model."""
        return x.contiguous(memory_format=self._order) if x.ndim == 4 else x

    def trainable(self) -> dict[str, Tensor]:
        """Return the parameters as leaves that gather gradients."""
        return {name: value.detach().requires_grad_() for name, value in self.parameters.items()}

    def _count_classes(self, x: Tensor) -> int:
        """Count the classes by one sample, so that an unusable model is told before any long work."""
        if self._order == torch.channels_last:
            try:
                return self._classes_of(self.arranged(x))
            except RuntimeError:  # a model that calls view needs the usual order
                self._arrange(torch.contiguous_format)
        try:
            return self._classes_of(x)
        except (BadInput, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise cannot_take(x, "importance data", error) from error

    def _overlaps(self) -> bool:
        able = self.device.type == "cuda" or (self.device.type == "cpu" and not self._skips_few())
        return able and any(
            isinstance(module, nn.Conv2d)
            and module.weight.dtype != torch.float64
            and any(k > step for k, step in zip(module.kernel_size, module.stride, strict=True))
            for module in self.model.modules()
        )

    def _skips_few(self) -> bool:
        """Tell whether a 1 x 1 convolution with a stride has channels that fill no vector.

        Channels last, the gradient of its weight writes beyond its memory: torch 2.8 to 2.14.1, oneDNN, AVX2.
        """
        return any(
            isinstance(module, nn.Conv2d)
            and max(module.kernel_size) == 1 < max(module.stride)
            and bool(module.in_channels % 16 or module.out_channels % 16)
            for module in self.model.modules()
        )

    def _arrange(self, order: torch.memory_format) -> None:
        self._order = order
        for name, value in self.parameters.items():
            if value.ndim == 4:
                self.parameters[name] = value.contiguous(memory_format=order)

    def _classes_of(self, x: Tensor) -> int:
        with torch.enable_grad():
            logits = self.logits(self.trainable(), x.clone())  # a model may write into its input
        if not logits.requires_grad:
            raise BadInput(NO_GRADIENT)
        return logits.shape[1]


def _widened(tensor: Tensor) -> Tensor:
    """Return a detached copy of at least float32; integers stay."""
    detached = tensor.detach()
    if detached.is_floating_point() and detached.dtype not in (torch.float32, torch.float64):
        return detached.float()
    return detached.clone()


def _value(name: str, parameter: Tensor) -> Tensor:
    if not parameter.is_floating_point():
        raise BadInput(
            f"parameter {name!r} is {parameter.dtype}: a quantised model has no gradients; give the model as "
            f"it was before quantisation"
        )
    return _widened(parameter)


def gradients_of(
    total: Tensor, leaves: Mapping[str, Tensor], outer: Tensor | None = None, *, keep: bool = False
) -> dict[str, Tensor]:
    """Compute the gradients of a scalar by name, dense; zeros for leaves it does not depend on.

    Args:
        total: a scalar, or anything with ``outer``.
        leaves: name -> leaf.
        outer: the gradient that comes back to ``total``.
        keep: keep the graph for another backward pass.
    """
    values = torch.autograd.grad(
        total, list(leaves.values()), outer, retain_graph=keep, materialize_grads=True
    )
    # up to torch 2.8 the zeros themselves ask for gradients
    return {name: value.detach().to_dense() for name, value in zip(leaves, values, strict=True)}
