"""Per-sample weight gradients of single layers, from what went into a layer and what came back to it.

Plain autograd sums the gradient of a weight over the samples of a batch. The factors it multiplies are per
sample, though, so each sample's gradient is a small matrix product away (Goodfellow, 2015, "Efficient
per-example gradient computations"; Rochette et al., 2019, for convolutions as products over unfolded inputs).

A rule takes (module, x, g): the input of one call of the module and the gradient that came back to its
output, both with n samples along dimension 0. Either may be of half precision (matrix products then are, and
anything summed here is widened first). It returns, for each parameter of the module by its local name,
a `PerSample` of n gradients. `RULES` lists the layers with a rule; a subclass counts only if it inherits the
layer's forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..precision import at_least_float32
from .convolutions import weight_gradients
from .per_sample import Given, Lookup, PerSample, Product

Gradients = dict[str, PerSample]
Rule = Callable[[Any, Tensor, Tensor], Gradients]
Preparation = Callable[[Any, Tensor], Tensor]


def linear(module: nn.Linear, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients for x [n, *, inputs] and g [n, *, outputs], any dimensions between."""
    right, left = x.reshape(len(x), -1, x.shape[-1]), g.reshape(len(g), -1, g.shape[-1])
    found: Gradients = {
        "weight": Product(left.mT[:, None], right.mT[:, None], (module.out_features, module.in_features))
    }
    if module.bias is not None:
        found["bias"] = Given(at_least_float32(left).sum(1))
    return found


def convolution(module: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients for x [n, C, *size] and g [n, O, *positions].

    Any stride, padding, dilation and groups will do.
    """
    found: Gradients = {"weight": weight_gradients(module, x, g)}
    if module.bias is not None:
        found["bias"] = Given(at_least_float32(g).flatten(2).sum(2))
    return found


def standardise(module: Any, x: Tensor) -> Tensor:
    """Return what eval-mode BatchNorm scales: running statistics are constants, so samples stay apart."""
    channels = (1, -1, *[1] * (x.ndim - 2))
    mean, deviation = module.running_mean, (module.running_var + module.eps).sqrt()
    standard: Tensor = (x - mean.view(channels)) / deviation.view(channels)
    return standard


def batch_norm(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients for x as `standardise` gives it and g [n, C, *]."""
    return _affine(x, g)


def group_norm(module: nn.GroupNorm, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients for x and g, both [n, C, *]."""
    return _affine(F.group_norm(at_least_float32(x), module.num_groups, eps=module.eps), g)


def _affine(normalised: Tensor, g: Tensor) -> Gradients:
    """Return the gradients of scale and shift, [n, C, *], summed over all but samples and channels."""
    g = at_least_float32(g)
    products = (normalised * g).flatten(2) if g.ndim > 2 else (normalised * g)[:, :, None]
    return {
        "weight": Given(products.sum(2)),
        "bias": Given(g.flatten(2).sum(2) if g.ndim > 2 else g.clone()),
    }


def layer_norm(module: nn.LayerNorm, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients for x and g [n, *, *normalized_shape]: scale and shift of each element."""
    shape, g = module.normalized_shape, at_least_float32(g)
    normalised = F.layer_norm(at_least_float32(x), shape, eps=module.eps)
    return {
        "weight": Given((normalised * g).reshape(len(g), -1, *shape).sum(1)),
        "bias": Given(g.reshape(len(g), -1, *shape).sum(1)),
    }


def layer_scale(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients of timm's LayerScale for x and g [n, *, d]."""
    return {"gamma": Given((x * at_least_float32(g)).reshape(len(g), -1, g.shape[-1]).sum(1))}


def layer_scale_2d(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients of timm's LayerScale2d for x and g [n, C, H, W]."""
    return {"gamma": _affine(x, g)["weight"]}


def layer_norm_2d(module: nn.LayerNorm, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients of timm's LayerNorm2d for x and g [n, C, H, W], normalised over C."""
    return layer_norm(module, x.movedim(1, -1), g.movedim(1, -1))


def response_norm(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients of timm's GlobalResponseNorm (Woo et al., 2023).

    x and g are [n, H, W, C], or [n, C, H, W].
    """
    x = at_least_float32(x)
    sizes = torch.linalg.vector_norm(x, dim=module.spatial_dim, keepdim=True)
    normalised = x * (sizes / (sizes.mean(module.channel_dim, keepdim=True) + module.eps))
    return _affine(normalised.movedim(module.channel_dim, 1), g.movedim(module.channel_dim, 1))


def rms_norm(module: Any, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients for x and g [n, *, *normalized_shape]; a scale, and no shift."""
    normalised = F.rms_norm(at_least_float32(x), module.normalized_shape, eps=module.eps)
    return {"weight": Given((normalised * g).reshape(len(g), -1, *module.normalized_shape).sum(1))}


def convolution_same(module: nn.Conv2d, x: Tensor, g: Tensor) -> Gradients:
    """Return the gradients of timm's Conv2dSame.

    It pads by the size of the image and then convolves without padding.
    """
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
    """Return the gradients for x int [n, *] and g [n, *, d]."""
    indices, values = x.reshape(len(x), -1), at_least_float32(g).reshape(len(g), -1, g.shape[-1])
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
    """Return the gradients of timm's BatchNormAct2d.

    g is what came back to `affine_output`, before the activation.
    """
    return batch_norm(module, x, g)


def affine_output(module: Any) -> nn.Module:
    """Return what BatchNormAct2d hands its normalised input to; in eval mode it passes it on."""
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
    """Return the rule of the layer whose forward pass ``module`` has; None: there is none."""
    kinds: tuple[Any, ...] = type(module).__mro__
    for kind in kinds:
        timm = kind.__module__.startswith("timm.layers.")
        rule = TIMM_RULES.get(kind.__name__) if timm else RULES.get(kind)
        if rule is not None and type(module).forward is kind.forward:
            return None if _unusual(module) else rule
    return None


def _unusual(module: nn.Module) -> bool:
    """Tell whether a layer has settings under which it does something its rule does not know."""
    if isinstance(module, nn.Embedding):
        return module.max_norm is not None or module.scale_grad_by_freq
    if getattr(module, "inplace", False):  # the input is gone when the hook sees it
        return True
    return getattr(module, "running_mean", 0) is None
