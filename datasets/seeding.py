"""Random streams that depend on a seed and a purpose, and on nothing else."""

from __future__ import annotations

import hashlib

import torch


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """Return a CPU generator whose stream depends on ``seed`` and ``purpose`` and on nothing else.

    Args:
        seed: of the whole run.
        purpose: in a word, such as "batches".
    """
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
