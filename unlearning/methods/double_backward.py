"""Layers as they are cheapest to differentiate more than once: convolutions, and BatchNorm in eval mode."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
import torch.nn.grad as conv_gradients
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode

from ...errors import BadInput

Forward = Callable[[Tensor], Tensor]


@contextmanager
def cheap_double_backward(model: nn.Module) -> Iterator[None]:
    """Let ``model`` compute the same function in the block, to rounding, by layers that differentiate better.

    - The double backward of PyTorch's convolution computes the gradient of the weight whether anybody wants
      it or not; `Convolution` does not. It makes a Hessian-vector product in the images half as expensive.
    - A BatchNorm with kept statistics is x * scale + shift in eval mode. Where it follows a convolution in a
      Sequential, both become part of that convolution's weight and bias, and no activation is touched; else
      it is a product and a sum, of which the double backward takes two passes over the activations rather
      than ten. BatchNorm in training mode is not concerned.
    """
    replaced: dict[nn.Module, Forward] = {}
    for module in model.modules():
        if _is_plain(module, _BatchNorm):
            replaced[module] = _affine(module)
        elif isinstance(module, nn.Conv2d) and _is_plain(module, nn.Conv2d) and _is_known(module):
            replaced[module] = _convolution(module)
    for conv, norm in _pairs(model):
        replaced |= {conv: _folded(conv, norm), norm: _folded_away(norm)}
    for module, forward in replaced.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in replaced:
            del module.forward


@contextmanager
def twice_differentiable() -> Iterator[None]:
    """Let models differentiate twice in the block that PyTorch's fast kernels let differentiate only once.

    Attention takes the path of plain products, and the hard sigmoid becomes the clamp that it is.

    Raises:
        BadInput: another operation of the model has no second derivative; names it.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH), _PlainActivations():
            yield
    except RuntimeError as error:
        found = _NO_DERIVATIVE.search(str(error))
        if found is None:
            raise
        operation = f"operation {found[1]!r}" if found[1] else "own autograd function"
        raise BadInput(
            f"the model's {operation} has no second derivative, which the implicit hypergradient of I-BAU "
            f"needs; set iterations=0, which leaves the indirect term out"
        ) from error


_NO_DERIVATIVE = re.compile(
    r"derivative for '?(?:aten::)?(\w+?)(?:_backward)?'? is not implemented|@once_differentiable"
)


class _PlainActivations(TorchFunctionMode):
    """Computes the hard sigmoid by operations that have second derivatives."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is F.hardsigmoid:
            return F.hardtanh(args[0] / 6 + 0.5, 0.0, 1.0)
        return function(*args, **(kwargs or {}))


class Convolution(torch.autograd.Function):
    """``F.conv2d`` whose first derivative in the images is a transposed convolution.

    That is an operation whose own derivatives PyTorch computes as they are asked for. Inputs that require
    gradients must not be leaves: `convolve` sees to that.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
        """Convolve as ``F.conv2d`` does; ``conv`` tells stride, padding, dilation and groups."""
        ctx.save_for_backward(x, weight)
        ctx.conv = conv
        return F.conv2d(x, weight, bias, *_geometry(conv))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of images, weight and bias that the engine will use."""
        (slope,), (x, weight), conv = slopes, ctx.saved_tensors, ctx.conv
        of_x, of_weight, of_bias = (_is_wanted(ctx, number) for number in range(3))
        stride, padding, dilation, groups = _geometry(conv)
        lost = [
            (size + 2 * pad - reach * (kernel - 1) - 1) % step
            for size, pad, reach, kernel, step in zip(
                x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True
            )
        ]
        return (
            F.conv_transpose2d(slope, weight, None, stride, padding, lost, groups, dilation)
            if of_x
            else None,
            conv_gradients.conv2d_weight(x, weight.shape, slope, stride, padding, dilation, groups)
            if of_weight
            else None,
            slope.sum((0, 2, 3)) if of_bias else None,
            None,
        )


def _is_wanted(ctx: Any, number: int) -> bool:
    """Tell whether the engine will use the gradient of an input, which it need not though one is required."""
    if not ctx.needs_input_grad[number]:  # a bias of None has no entry in next_functions
        return False
    return bool(torch._C._will_engine_execute_node(ctx.next_functions[number][0]))


def _geometry(conv: nn.Conv2d) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
    assert not isinstance(conv.padding, str)
    return conv.stride, conv.padding, conv.dilation, conv.groups


def _is_known(conv: nn.Conv2d) -> bool:
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str)


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Conv2d, _BatchNorm]]:
    """Yield the convolutions whose only reader is the BatchNorm that follows in a Sequential."""
    uses: dict[nn.Module, int] = {}
    chains = [m for m in model.modules() if isinstance(m, nn.Sequential) and _is_plain(m, nn.Sequential)]
    for chain in chains:
        for part in chain:
            uses[part] = uses.get(part, 0) + 1
    for chain in chains:
        for conv, norm in pairwise(chain):
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, _BatchNorm)):
                continue
            plain = _is_plain(conv, nn.Conv2d) and _is_plain(norm, _BatchNorm) and _is_known(conv)
            if plain and uses[conv] == uses[norm] == 1:
                yield conv, norm


def _is_plain(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Tell whether a module computes what ``kind`` does, and nobody looks at what goes in and out."""
    if not isinstance(module, kind) or type(module).forward is not kind.forward:
        return False
    return not ("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)


def _scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor] | None:
    """Return the scale and shift of each channel; None where it normalises by the batch."""
    mean, var = norm.running_mean, norm.running_var
    if norm.training or mean is None or var is None:
        return None
    scale = torch.rsqrt(var + norm.eps)
    scale = scale if norm.weight is None else scale * norm.weight
    return scale, -mean * scale if norm.bias is None else norm.bias - mean * scale


def _affine(norm: nn.Module) -> Forward:
    assert isinstance(norm, _BatchNorm)

    def forward(x: Tensor) -> Tensor:
        found = _scale_and_shift(norm)
        if found is None:
            return type(norm).forward(norm, x)
        scale, shift = (one.view(1, -1, *(1,) * (x.ndim - 2)) for one in found)
        return x * scale + shift

    return forward


def _convolution(conv: nn.Conv2d) -> Forward:
    return lambda x: convolve(conv, x, conv.weight, conv.bias)


def _folded(conv: nn.Conv2d, norm: _BatchNorm) -> Forward:
    def forward(x: Tensor) -> Tensor:
        found = _scale_and_shift(norm)
        if found is None:
            return convolve(conv, x, conv.weight, conv.bias)
        scale, shift = found
        bias = shift if conv.bias is None else shift + scale * conv.bias
        return convolve(conv, x, conv.weight * scale.view(-1, 1, 1, 1), bias)

    return forward


def _folded_away(norm: _BatchNorm) -> Forward:
    def forward(x: Tensor) -> Tensor:
        return x if _scale_and_shift(norm) is not None else type(norm).forward(norm, x)

    return forward


def convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolve as ``conv`` does, with another weight and bias; see `Convolution`."""
    inputs = (_as_result(x), _as_result(weight), None if bias is None else _as_result(bias))
    result: Tensor = Convolution.apply(*inputs, conv)
    return result


def _as_result(tensor: Tensor) -> Tensor:
    """Return the same tensor; of leaves, the engine does not tell whether it will use their gradient."""
    return tensor.view_as(tensor) if tensor.is_leaf and tensor.requires_grad else tensor
