"""How many samples to work on at once, and fewer of them when memory runs out."""

from __future__ import annotations

import logging
import os

import torch

from ..errors import BadInput

CPU_BUDGET = 512 << 20
LARGEST = 512

logger = logging.getLogger(__name__)


def free_memory(device: torch.device) -> int | None:
    """Bytes that are free on a CUDA device, or on this machine; None where the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def budget(device: torch.device) -> int:
    """Bytes that a chunk may take: half of what a GPU has free; on a CPU 512 MiB or a quarter of what is."""
    free = free_memory(device)
    if device.type == "cuda" and free is not None:
        return free // 2
    return CPU_BUDGET if free is None else min(CPU_BUDGET, free // 4)


class ChunkSize:
    """A number of samples that is halved, and says so once, when memory runs out.

    Args:
        size: samples at once.
    """

    def __init__(self, size: int) -> None:
        self.size = max(1, size)
        self._said = False

    def halve(self, tried: int) -> None:
        """After running out of memory with ``tried`` samples.

        Raises:
            BadInput: a single sample is too much.
        """
        if tried <= 1:
            raise BadInput(
                "out of memory with the gradients of a single sample; use a device with more memory, or "
                "the CPU"
            )
        if not self._said:
            logger.warning("out of memory with %d samples at once; going on with fewer", tried)
        self._said = True
        self.size = tried // 2
