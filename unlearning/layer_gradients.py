"""Per-sample weight gradients of single layers, from what went into a layer and what came back to it.

Plain autograd sums the gradient of a weight over the samples of a batch. The factors it multiplies are per
sample, though, so each sample's gradient is a small matrix product away (Goodfellow, 2015, "Efficient
per-example gradient computations"; Rochette et al., 2019, for convolutions as products over unfolded inputs).

A rule takes (module, x, g): the input of one call of the module and the gradient that came back to its
output, both with n samples along dimension 0. It returns, for each parameter of the module by its local name,
a `PerSample` of n gradients. `RULES` lists the layers with a rule; a subclass counts only if it inherits the
layer's forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PerSample(Protocol):
    """The gradients of one parameter for n samples, not yet computed."""

    @property
    def count(self) -> int:
        """N."""

    @property
    def nbytes(self) -> int:
        """Memory it holds."""

    def rows(self, start: int, stop: int) -> Tensor:
        """Gradients of the samples start..stop - 1: [stop - start, *shape of the parameter], a new tensor."""


@dataclass(frozen=True, eq=False)
class Given:
    """Gradients that are small enough to hold: [n, *shape]."""

    values: Tensor

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    def rows(self, start: int, stop: int) -> Tensor:
        return self.values[start:stop].clone()


@dataclass(frozen=True, eq=False)
class Product:
    """Matrix products: sample i has ``left[i] @ right[i].mT``, reshaped to the parameter.

    Args:
        left: [n, groups, outputs, positions], what came back.
        right: [n, groups, inputs, positions], what went in.
        shape: of the parameter, groups * outputs * inputs numbers.
    """

    left: Tensor
    right: Tensor
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.left)

    @property
    def rank_one(self) -> bool:
        """Whether every sample's gradient is an outer product, so that its size is a product of sizes."""
        return self.left.shape[1] == 1 and self.left.shape[3] == 1

    @property
    def nbytes(self) -> int:
        return self.left.nbytes + self.right.nbytes

    def rows(self, start: int, stop: int) -> Tensor:
        product = torch.matmul(self.left[start:stop], self.right[start:stop].mT)
        return product.reshape(-1, *self.shape)


@dataclass(frozen=True, eq=False)
class Lookup:
    """Rows of an embedding: position t of sample i adds ``values[i, t]`` to row ``indices[i, t]``."""

    indices: Tensor
    values: Tensor
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.indices.nbytes

    def rows(self, start: int, stop: int) -> Tensor:
        indices, values = self.indices[start:stop], self.values[start:stop]
        result = values.new_zeros(len(indices), *self.shape)
        return result.scatter_add_(1, indices[:, :, None].expand_as(values), values)


Gradients = dict[str, PerSample]
Rule = Callable[[Any, Tensor, Tensor], Gradients]
Preparation = Callable[[Any, Tensor], Tensor]


def linear(module: nn.Linear, x: Tensor, g: Tensor) -> Gradients:
    """X [n, *, inputs], g [n, *, outputs], any dimensions between."""
    right, left = x.reshape(len(x), -1, x.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    found: Gradients = {
        "weight": Product(left.mT[:, None], right.mT[:, None], (module.out_features, module.in_features))
    }
    if module.bias is not None:
        found["bias"] = Given(left.sum(1))
    return found


def convolution(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, g: Tensor) -> Gradients:
    """X [n, C, *size], g [n, O, *positions]; any stride, padding, dilation and groups."""
    columns = _columns(module, x)
    left = g.reshape(len(g), module.groups, g.shape[1] // module.groups, -1)
    found: Gradients = {"weight": Product(left, columns, tuple(module.weight.shape))}
    if module.bias is not None:
        found["bias"] = Given(g.flatten(2).sum(2))
    return found


def _columns(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """What each output position sees: [n, groups, C / groups * kernel, positions]."""
    kernel, groups = module.kernel_size, module.groups
    if all(k == 1 for k in kernel) and all(s == 1 for s in module.stride) and not _pads(module):
        return x.reshape(len(x), groups, x.shape[1] // groups, -1)
    if (
        isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ):
        columns = F.unfold(x, kernel, module.dilation, module.padding, module.stride)
    else:
        columns = _windows(module, _padded(module, x))
    return columns.reshape(len(x), groups, columns.shape[1] // groups, -1)


def _pads(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> bool:
    return any(module._reversed_padding_repeated_twice)


def _padded(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return F.pad(x, module._reversed_padding_repeated_twice, mode=mode)


def _windows(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """Windows of padded images of any dimension, as a view: [n, C * kernel, positions] once flattened."""
    x = x.contiguous()
    sizes, strides = list(x.shape[2:]), list(x.stride()[2:])
    geometry = list(zip(sizes, module.kernel_size, module.stride, module.dilation, strides, strict=True))
    positions = [(size - dilation * (k - 1) - 1) // step + 1 for size, k, step, dilation, _ in geometry]
    view = x.as_strided(
        (*x.shape[:2], *module.kernel_size, *positions),
        (*x.stride()[:2], *[d * s for *_, d, s in geometry], *[step * s for _, _, step, _, s in geometry]),
    )
    dimensions = len(sizes)
    return view.flatten(1, 1 + dimensions).flatten(2)


def standardise(module: Any, x: Tensor) -> Tensor:
    """What eval-mode BatchNorm scales: running statistics are constants, so samples stay apart."""
    channels = (1, -1, *[1] * (x.ndim - 2))
    mean, deviation = module.running_mean, (module.running_var + module.eps).sqrt()
    standard: Tensor = (x - mean.view(channels)) / deviation.view(channels)
    return standard


def batch_norm(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """X as `standardise` gives it, g [n, C, *]."""
    return _affine(x, g)


def group_norm(module: nn.GroupNorm, x: Tensor, g: Tensor) -> Gradients:
    """x, g [n, C, *]."""
    return _affine(F.group_norm(x, module.num_groups, eps=module.eps), g)


def _affine(normalised: Tensor, g: Tensor) -> Gradients:
    """Scale and shift a channel: [n, C, *] summed over all but samples and channels."""
    products = (normalised * g).flatten(2) if g.ndim > 2 else (normalised * g)[:, :, None]
    return {
        "weight": Given(products.sum(2)),
        "bias": Given(g.flatten(2).sum(2) if g.ndim > 2 else g.clone()),
    }


def layer_norm(module: nn.LayerNorm, x: Tensor, g: Tensor) -> Gradients:
    """x, g [n, *, *normalized_shape]; scale and shift an element of normalized_shape."""
    shape = module.normalized_shape
    normalised = F.layer_norm(x, shape, eps=module.eps)
    return {
        "weight": Given((normalised * g).reshape(len(g), -1, *shape).sum(1)),
        "bias": Given(g.reshape(len(g), -1, *shape).sum(1)),
    }


def layer_scale(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Timm's LayerScale: x, g [n, *, d]."""
    return {"gamma": Given((x * g).reshape(len(g), -1, g.shape[-1]).sum(1))}


def layer_scale_2d(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Timm's LayerScale2d: x, g [n, C, H, W]."""
    return {"gamma": _affine(x, g)["weight"]}


def layer_norm_2d(module: nn.LayerNorm, x: Tensor, g: Tensor) -> Gradients:
    """Timm's LayerNorm2d: x, g [n, C, H, W], normalised over C."""
    return layer_norm(module, x.movedim(1, -1), g.movedim(1, -1))


def response_norm(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Timm's GlobalResponseNorm (Woo et al., 2023): x, g [n, H, W, C], or [n, C, H, W]."""
    sizes = torch.linalg.vector_norm(x, dim=module.spatial_dim, keepdim=True)
    normalised = x * (sizes / (sizes.mean(module.channel_dim, keepdim=True) + module.eps))
    return _affine(normalised.movedim(module.channel_dim, 1), g.movedim(module.channel_dim, 1))


def rms_norm(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """x, g [n, *, *normalized_shape]; a scale, and no shift."""
    normalised = F.rms_norm(x, module.normalized_shape, eps=module.eps)
    return {"weight": Given((normalised * g).reshape(len(g), -1, *module.normalized_shape).sum(1))}


def convolution_same(module: nn.Conv2d, x: Tensor, g: Tensor) -> Gradients:
    """Timm's Conv2dSame, which pads by the size of the image and then convolves without padding."""
    sides = [
        max((-(-size // step) - 1) * step + (k - 1) * dilation + 1 - size, 0)
        for size, k, step, dilation in zip(
            x.shape[2:], module.kernel_size, module.stride, module.dilation, strict=True
        )
    ]
    height, width = sides
    before = (width // 2, width - width // 2, height // 2, height - height // 2)
    return convolution(module, F.pad(x, before), g)


def embedding(module: nn.Embedding, x: Tensor, g: Tensor) -> Gradients:
    """X int [n, *], g [n, *, d]."""
    indices, values = x.reshape(len(x), -1), g.reshape(len(g), -1, g.shape[-1])
    if module.padding_idx is not None:
        values = values * (indices != module.padding_idx)[:, :, None]
    return {"weight": Lookup(indices, values, tuple(module.weight.shape))}


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: linear,
    nn.Conv1d: convolution,
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.BatchNorm3d: batch_norm,
    nn.GroupNorm: group_norm,
    nn.LayerNorm: layer_norm,
    nn.RMSNorm: rms_norm,
    nn.Embedding: embedding,
}


def batch_norm_act(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Timm's BatchNormAct2d: g is what came back to `affine_output`, before the activation."""
    return batch_norm(module, x, g)


def affine_output(module: Any) -> nn.Module:
    """What BatchNormAct2d hands its normalised input to; in eval mode it passes it on."""
    drop: nn.Module = module.drop
    return drop


PREPARATIONS: dict[Rule, Preparation] = {batch_norm: standardise, batch_norm_act: standardise}
"""Done to the input while the layer is called, as only then its buffers have the values of the pass."""

TAPS: dict[Rule, Callable[[Any], nn.Module]] = {batch_norm_act: affine_output}
"""Where the output that a rule means is seen, if that is not the output of the layer."""


TIMM_RULES: dict[str, Rule] = {
    "BatchNormAct2d": batch_norm_act,
    "Conv2dSame": convolution_same,
    "GlobalResponseNorm": response_norm,
    "GroupNorm": group_norm,
    "GroupNorm1": group_norm,
    "LayerNorm": layer_norm,
    "LayerNorm2d": layer_norm_2d,
    "LayerScale": layer_scale,
    "LayerScale2d": layer_scale_2d,
    "Linear": linear,
    "RmsNorm": rms_norm,
}
"""For layers of timm's own, by the names of their classes: models without them need no timm."""


def rule_for(module: nn.Module) -> Rule | None:
    """The rule of the layer whose forward pass ``module`` has; None: there is none."""
    kinds: tuple[Any, ...] = type(module).__mro__
    for kind in kinds:
        timm = kind.__module__.startswith("timm.layers.")
        rule = TIMM_RULES.get(kind.__name__) if timm else RULES.get(kind)
        if rule is not None and type(module).forward is kind.forward:
            return None if _unusual(module) else rule
    return None


def _unusual(module: nn.Module) -> bool:
    """Settings under which a layer does something its rule does not know."""
    if isinstance(module, nn.Embedding):
        return module.max_norm is not None or module.scale_grad_by_freq
    if getattr(module, "inplace", False):  # the input is gone when the hook sees it
        return True
    return getattr(module, "running_mean", 0) is None


def sums_of_sizes(
    contributions: Sequence[PerSample], weights: Tensor, *, squared: bool, budget: int
) -> Tensor:
    """sum_i weights[k, i] * |gradient of sample i| (or its square), for each k: [K, *shape].

    Args:
        contributions: one per use of the parameter; a sample's gradient is their sum.
        weights: [K, n], >= 0.
        squared: squares instead of absolute values.
        budget: numbers that may be held at once.
    """
    first = contributions[0]
    if len(contributions) == 1 and isinstance(first, Product) and first.rank_one:
        return _of_outer_products(first, weights, squared)
    sample = first.rows(0, 1)
    total = weights.new_zeros(len(weights), sample[0].numel())
    step = max(1, budget // max(1, sample[0].numel()))
    for start in range(0, first.count, step):
        stop = min(start + step, first.count)
        block = first.rows(start, stop)
        for other in contributions[1:]:
            block += other.rows(start, stop)
        sizes = block.square_() if squared else block.abs_()
        total.addmm_(weights[:, start:stop], sizes.reshape(stop - start, total.shape[1]))
    return total.reshape(len(weights), *sample.shape[1:])


def _of_outer_products(product: Product, weights: Tensor, squared: bool) -> Tensor:
    """|a b'| = |a| |b|', so one matrix product serves all samples."""
    left, right = product.left[:, 0, :, 0], product.right[:, 0, :, 0]
    left, right = (left.square(), right.square()) if squared else (left.abs(), right.abs())
    sums = torch.stack([(left * w[:, None]).mT @ right for w in weights])
    return sums.reshape(len(weights), *product.shape)
