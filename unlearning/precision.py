"""In which number type importances run their forward and backward passes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput
from .kinds import Precision

REDUCED: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = ("float32", *REDUCED)

SAMPLE_SCALE = 2.0**6
BATCH_SCALE = 2.0**10
"""Length that float16 gradients of the logits are given: of each sample, and of a batch's longest one."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arithmetic:
    """The number type of forward and backward passes; weights, losses and sums stay at least float32.

    Args:
        precision: "float32" (at least that: double precision is kept), "bfloat16" or "float16".
    """

    precision: Precision = "float32"

    @property
    def reduced(self) -> bool:
        """Tell whether passes run under autocast."""
        return self.precision in REDUCED

    @property
    def scaled(self) -> bool:
        """Tell whether small gradients need a factor: float16 has nothing between 0 and 6e-8."""
        return self.precision == "float16"

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context of a forward pass; an autocast around the caller is turned off for "float32"."""
        dtype = REDUCED.get(self.precision, torch.bfloat16)
        return torch.autocast(device.type, dtype, enabled=self.reduced)

    def widened(self, logits: Tensor) -> Tensor:
        """Return the logits as the loss takes them: float32 where the pass was reduced.

        Raises:
            BadInput: they overflow float16.
        """
        if not self.reduced:
            return logits
        if self.scaled and not torch.isfinite(logits).all():
            raise BadInput(
                "the logits are not finite in float16, whose largest number is 65504; use precision "
                "'bfloat16' or 'float32'"
            )
        return logits.float()

    def sample_scales(self, gradients: Tensor) -> Tensor:
        """Return powers of two [n] that bring each sample's gradient of the logits [n, classes] near 2^6."""
        return SAMPLE_SCALE / _power_of_two(torch.linalg.vector_norm(gradients, dim=1))

    def batch_scale(self, gradients: Tensor, count: int) -> float:
        """Return one power of two for a batch, of whose gradients it makes the longest 2^10 / count."""
        longest = torch.linalg.vector_norm(gradients, dim=1).max() * count
        return BATCH_SCALE / float(_power_of_two(longest))


def _power_of_two(sizes: Tensor) -> Tensor:
    """Find the largest power of two in each size, 1 for 0; within 2^-40 and 2^40, so squares fit float32."""
    exponents = torch.frexp(torch.where(sizes > 0, sizes, torch.ones_like(sizes))).exponent - 1
    return torch.ldexp(torch.ones_like(sizes), exponents.clamp(-40, 40))


@contextmanager
def no_tf32(device: torch.device) -> Iterator[None]:
    """Keep all bits of float32 in matrix products and convolutions on CUDA inside the block.

    By default PyTorch rounds the factors of convolutions to TF32, which has 10 bits after the point; that is
    less than float32 promises, and as much as the check of per-sample gradients takes for an error.
    """
    if device.type != "cuda":
        yield
        return
    switches: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = False
        yield
    finally:
        for switch, allowed in zip(switches, before, strict=True):
            switch.allow_tf32 = allowed


def at_least_float32(tensor: Tensor) -> Tensor:
    """Widen half precision, and leave anything else as it is."""
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


def arithmetic_for(precision: str, device: torch.device, dtype: torch.dtype) -> Arithmetic:
    """Return the arithmetic of ``precision`` for weights of ``dtype`` on ``device``.

    Raises:
        BadInput: no such precision, weights in double precision, or a device that cannot.
    """
    if precision not in PRECISIONS:
        raise BadInput(f"unknown precision {precision!r}; choose from {', '.join(PRECISIONS)}")
    if precision == "float32":
        return Arithmetic()
    if dtype == torch.float64:
        raise BadInput(
            f"precision {precision!r} with weights in float64, which autocast leaves alone; give "
            f"model.float()"
        )
    _check_device(precision, device)
    return Arithmetic("bfloat16" if precision == "bfloat16" else "float16")


def _check_device(precision: str, device: torch.device) -> None:
    able = torch.amp.is_autocast_available(device.type)
    if able and device.type == "cuda" and precision == "bfloat16":
        able = torch.cuda.is_bf16_supported()
    if not able:
        raise BadInput(f"precision {precision!r} is not available on {device}; use 'float32'")
    if device.type == "cpu" and precision == "float16":
        logger.warning("float16 on a CPU is far slower than float32; use precision 'bfloat16' there")
