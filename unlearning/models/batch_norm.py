"""Batch normalisation whose gradients are right for images in any order of memory.

PyTorch's backward pass of batch normalisation on a CPU (``native_batch_norm_backward``; seen in 2.8.0 and in
2.14.1, in float32 and float64, in eval and in training mode) reads the gradient that comes back in the wrong
order where the input is contiguous, the gradient is so only as channels last, and a dimension of size 1 has a
stride that hides it: ``is_contiguous(memory_format=channels_last)`` is true, the memory format that the
strides suggest is another. A batch of one image whose feature maps become tokens,
``x.flatten(2).transpose(1, 2)``, is such a case; so is ``[N, C, W, 1]`` of any N, and instance normalisation,
which is batch normalisation of one image of N * C channels. All gradients of that layer and of those before
it are then wrong, by factors of 2 to 200, without a word.

Images with their sides joined, [N, C, H * W], have no such order, the same statistics and the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from ..inference import forget_biases

BATCH_NORMS = (F.batch_norm, torch.batch_norm)
INSTANCE_NORMS = (F.instance_norm, torch.instance_norm)


def sound_batch_norm(model: nn.Module) -> AbstractContextManager[object]:
    """Return a context in which the batch normalisation of ``model`` is sound, an empty one without any."""
    normalises = any(hasattr(module, "running_mean") for module in model.modules())
    return SoundBatchNorm() if normalises else nullcontext()


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Prepare a forward pass with weights of its own: nothing of an earlier pass is used, nothing is left."""
    forget_biases(model)
    try:
        with sound_batch_norm(model):
            yield
    finally:
        forget_biases(model)


class SoundBatchNorm(TorchFunctionMode):
    """Forward passes inside the block join the sides of images wherever that may matter.

    Results of the forward pass keep their bits, those of the backward pass are those of contiguous images.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        norm = func in BATCH_NORMS or func in INSTANCE_NORMS
        if norm and args and _doubtful(args[0], instance=func in INSTANCE_NORMS):
            x: Tensor = args[0]
            found = func(x.flatten(2), *args[1:], **kwargs).unflatten(2, x.shape[2:])
            # in the order of memory that layers after it expect, and no view: some write into it
            return torch.empty_like(x, dtype=found.dtype).copy_(found)
        return func(*args, **kwargs)


def _doubtful(x: object, *, instance: bool) -> bool:
    """Tell whether x is images that have, or will have, a dimension of size 1."""
    return isinstance(x, Tensor) and x.ndim > 3 and 0 not in x.shape and (instance or 1 in x.shape)
