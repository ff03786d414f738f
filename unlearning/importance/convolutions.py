"""Per-sample weight gradients of convolutions: products over what each output position sees.

Inputs are unfolded a few samples at a time, so that what the products read is still in the cache, and copies
of a whole chunk, 9 times its activations for a 3 x 3 kernel, are never made. Plain 2-d convolutions unfold in
the order of channels-last images, in which a row of a window is one run of memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .per_sample import PerSample, Product

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d


@dataclass(frozen=True, eq=False)
class Unfolded(PerSample):
    """The weight gradients of any convolution.

    Args:
        module: for its geometry.
        x: [n, C, *size], what went in.
        g: [n, O, *positions], what came back; of the same dtype.
    """

    module: Convolution
    x: Tensor
    g: Tensor

    @property
    def count(self) -> int:
        return len(self.x)

    @property
    def nbytes(self) -> int:
        return self.x.nbytes + self.g.nbytes

    @property
    def size(self) -> int:
        return math.prod(self.module.weight.shape)

    def block(self, start: int, stop: int) -> Tensor:
        groups, g = self.module.groups, self.g[start:stop]
        left = g.reshape(len(g), groups, g.shape[1] // groups, -1)
        columns = _windows(self.module, _padded(self.module, self.x[start:stop]))
        right = columns.reshape(len(g), groups, columns.shape[1] // groups, -1)
        return torch.matmul(left, right.mT).reshape(-1, *self.module.weight.shape)


class UnfoldedLast(Unfolded):
    """The same for a Conv2d without groups; blocks are [m, O, *kernel, C]."""

    def block(self, start: int, stop: int) -> Tensor:
        columns = _windows_last(self.module, _padded(self.module, self.x[start:stop]))
        product = torch.matmul(self.g[start:stop].flatten(2), columns)
        return product.reshape(*product.shape[:2], *self.module.kernel_size, -1)

    def ordered(self, blocks: Tensor) -> Tensor:
        return blocks.movedim(-1, 2)


def weight_gradients(module: Convolution, x: Tensor, g: Tensor) -> PerSample:
    """Return the weight gradients for x [n, C, *size] and g [n, O, *positions].

    Any stride, padding, dilation and groups will do.
    """
    groups = module.groups
    if all(k == 1 for k in module.kernel_size) and all(s == 1 for s in module.stride) and not _pads(module):
        left = g.reshape(len(g), groups, g.shape[1] // groups, -1)
        right = x.reshape(len(x), groups, x.shape[1] // groups, -1)
        return Product(left, right, tuple(module.weight.shape))
    if isinstance(module, nn.Conv2d) and groups == 1:
        return UnfoldedLast(module, x, g)
    return Unfolded(module, x, g)


def _pads(module: Convolution) -> bool:
    return any(module._reversed_padding_repeated_twice)


def _padded(module: Convolution, x: Tensor) -> Tensor:
    if not _pads(module):
        return x
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(x, module._reversed_padding_repeated_twice, mode=mode)


def _positions(module: Convolution, sizes: torch.Size) -> list[int]:
    geometry = zip(sizes, module.kernel_size, module.stride, module.dilation, strict=True)
    return [(size - dilation * (k - 1) - 1) // step + 1 for size, k, step, dilation in geometry]


def _windows(module: Convolution, x: Tensor) -> Tensor:
    """Return the windows of padded images of any dimension: [n, C * kernel, positions]."""
    x = x.contiguous()
    strides = x.stride()[2:]
    view = x.as_strided(
        (*x.shape[:2], *module.kernel_size, *_positions(module, x.shape[2:])),
        (
            *x.stride()[:2],
            *[d * s for d, s in zip(module.dilation, strides, strict=True)],
            *[step * s for step, s in zip(module.stride, strides, strict=True)],
        ),
        x.storage_offset(),
    )
    dimensions = len(strides)
    return view.flatten(1, 1 + dimensions).flatten(2)


def _windows_last(module: Convolution, x: Tensor) -> Tensor:
    """Return the windows of padded images [n, H, W, C in memory]: [n, positions, kernel * C]."""
    x = x.permute(0, 2, 3, 1).contiguous()
    positions = _positions(module, x.shape[1:3])
    (sample, *strides, channel) = x.stride()
    view = x.as_strided(
        (len(x), *positions, *module.kernel_size, x.shape[3]),
        (
            sample,
            *[step * s for step, s in zip(module.stride, strides, strict=True)],
            *[d * s for d, s in zip(module.dilation, strides, strict=True)],
            channel,
        ),
        x.storage_offset(),
    )
    return view.reshape(len(x), math.prod(positions), -1)
