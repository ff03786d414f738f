"""A model as importances see it: detached weights of at least float32, checked inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..datasets.images import check_labels
from ..errors import BadInput
from .inference import check_batch, check_logits, check_targets


class WorkingModel:
    """Weights and buffers of a model, apart from it; the model itself is left exactly as it was.

    Args:
        model: in eval mode, and kept in it while this is used.

    Attributes:
        parameters: name -> detached value; half precision is widened to float32.
        buffers: likewise.

    Raises:
        BadInput: no parameters, quantised ones, or a wrapper that hides them.
    """

    def __init__(self, model: nn.Module) -> None:
        if isinstance(model, torch.jit.ScriptModule | nn.DataParallel):
            raise BadInput(
                f"the model is a {type(model).__name__}, which cannot be called with other weights; give the "
                f"plain module inside DataParallel, or the one that was scripted or traced"
            )
        self.model = model
        self.parameters = {name: _value(name, p) for name, p in model.named_parameters()}
        if not self.parameters:
            raise BadInput("the model has no parameters; there is nothing to dampen")
        self.buffers = {name: _widened(b) for name, b in model.named_buffers()}
        self.classes: int | None = None

    @property
    def device(self) -> torch.device:
        """Where the first parameter is."""
        return next(iter(self.parameters.values())).device

    def zeros(self) -> dict[str, Tensor]:
        """Sums to begin with: float64, so that a million samples lose no digits (MPS has only float32)."""
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return {name: torch.zeros_like(p, dtype=dtype) for name, p in self.parameters.items()}

    def accept(self, x: Tensor, y: Tensor, *, check_numbers: bool) -> tuple[Tensor, Tensor]:
        """The batch on the model's device and in its dtype.

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
        """Of ``x`` with other values for the parameters, checked."""
        return check_logits(functional_call(self.model, {**parameters, **self.buffers}, (x,)), len(x))

    def trainable(self) -> dict[str, Tensor]:
        """The parameters as leaves that gather gradients."""
        return {name: value.detach().requires_grad_() for name, value in self.parameters.items()}

    def _count_classes(self, x: Tensor) -> int:
        """From one sample, so that a model that cannot be used is told before any long work."""
        with torch.enable_grad():
            logits = self.logits(self.trainable(), x.clone())  # a model may write into its input
        if not logits.requires_grad:
            raise BadInput(
                "the logits have no gradient with respect to the weights; take torch.no_grad() and detach() "
                "out of the model's forward pass"
            )
        return logits.shape[1]


def _widened(tensor: Tensor) -> Tensor:
    """A detached copy of at least float32; integers stay."""
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


def gradients_of(total: Tensor, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients of a scalar by name, dense; zeros for leaves it does not depend on."""
    values = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    # up to torch 2.8 the zeros themselves ask for gradients
    return {name: value.detach().to_dense() for name, value in zip(leaves, values, strict=True)}
