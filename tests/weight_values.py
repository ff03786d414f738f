"""Named tensors, copied and compared to the bit."""

from __future__ import annotations

import torch
from torch import Tensor

Values = dict[str, Tensor]


def copies(values: Values) -> Values:
    return {name: value.clone() for name, value in values.items()}


def same(found: Values, expected: Values) -> bool:
    """To the bit: zeros count with their sign."""
    return all(
        found[n].dtype == e.dtype
        and torch.equal(found[n], e)
        and torch.equal(found[n].signbit(), e.signbit())
        for n, e in expected.items()
    )
