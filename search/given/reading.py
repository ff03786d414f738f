"""Reading that fails with one clear error, and the comparison of two readings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ...errors import BadInput
from ...unlearning.inference import Batch, first_line

COMPARED_SAMPLES = 32
"""So many samples are read twice: of a random flip, one in 2^32 sets would seem to stay the same."""

_OURS = (BadInput, MemoryError, torch.OutOfMemoryError)


def each(items: Iterable[Any], failed: Callable[[int, Exception], BadInput]) -> Iterator[Any]:
    """Yield the items; an error of whoever makes them is told by ``failed``, with the item's number.

    Raises:
        BadInput: what ``failed`` makes of an error; and those that are one already.
    """
    try:
        iterator = iter(items)
    except _OURS:
        raise
    except Exception as error:
        raise failed(0, error) from error
    for number in count():
        try:
            item = next(iterator)
        except StopIteration:
            return
        except _OURS:
            raise
        except Exception as error:
            raise failed(number, error) from error
        yield item


def asked(question: Callable[[], Any], failed: Callable[[Exception], BadInput]) -> Any:
    """Return the answer of the user's code; an error in it is told by ``failed``."""
    try:
        return question()
    except _OURS:
        raise
    except Exception as error:
        raise failed(error) from error


def said(error: Exception) -> str:
    """Say an error in a few words."""
    return f"{type(error).__name__}: {first_line(error)}"


def check_same(first: Batch, again: Batch, name: str) -> None:
    """Refuse samples that differ when they are read again, beyond rounding.

    Raises:
        BadInput: they do.
    """
    if not (_same(first[0], again[0]) and torch.equal(first[1], again[1])):
        raise BadInput(
            f"{name}: the same samples differ from one reading to the next; give them in a fixed order and "
            f"without random augmentation (RandomCrop, RandomHorizontalFlip), as in evaluation"
        )


def _same(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if not a.is_floating_point() or not a.numel():
        return torch.equal(a, b)
    scale = float(a.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return torch.allclose(a, b, rtol=0.0, atol=1e-5 * scale, equal_nan=True)
