"""How many samples to work on at once, and fewer of them when memory runs out.

The budget of a chunk is a constant, not what happens to be free: float32 sums of another chunk are rounded
otherwise, and the same model with the same data and settings is to give the same bits on every machine of its
kind.
"""

from __future__ import annotations

import logging
import os

import torch

from ..errors import BadInput

CPU_BUDGET = 512 << 20
CUDA_BUDGET = 8 << 30
"""Bytes that the activations and gradients of a chunk may take, as far as a sample tells."""
LARGEST = 512

logger = logging.getLogger(__name__)


def free_memory(device: torch.device) -> int | None:
    """Count the free bytes of a CUDA device, or of this machine; None where the system does not say.

    It decides what may be kept or not, which changes no number; never what is computed together.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def chunk_budget(device: torch.device) -> int:
    """Return how many bytes a chunk may take on this kind of device, whatever is free.

    That is 8 GiB on a GPU, else 512 MiB.
    """
    return CUDA_BUDGET if device.type == "cuda" else CPU_BUDGET


def room(device: torch.device) -> int:
    """Return how many bytes may be kept to save work.

    Half of what a GPU has free; else 512 MiB, or a quarter of what is free if that is less.
    """
    free = free_memory(device)
    if device.type == "cuda" and free is not None:
        return free // 2
    return CPU_BUDGET if free is None else min(CPU_BUDGET, free // 4)


def ran_out(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out: a GPU has an exception for that, a CPU only words."""
    said = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)


class ChunkSize:
    """A number of samples that is halved, and says so once, when memory runs out.

    Args:
        size: samples at once.

    Attributes:
        size: samples at once from now on.
        reduced_to: the smallest size after memory ran out; None: it never did, and rounding is as it always
            is for the model, the data and the settings.
    """

    def __init__(self, size: int) -> None:
        self.size = max(1, size)
        self.reduced_to: int | None = None

    def halve(self, tried: int) -> None:
        """Halve the size after running out of memory with ``tried`` samples.

        Raises:
            BadInput: a single sample is too much.
        """
        if tried <= 1:
            raise BadInput(
                "out of memory with the gradients of a single sample; use a device with more memory, or "
                "the CPU"
            )
        if self.reduced_to is None:
            logger.warning(
                "out of memory with %d samples at once; going on with fewer: the last digits of the "
                "importances, and of alpha, may differ from those of a run with more memory",
                tried,
            )
        self.size = self.reduced_to = tried // 2
