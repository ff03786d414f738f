"""Test images that are given away, and therefore never reported on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from ..errors import BadInput
from .views import seeded_generator


class HeldBack(BaseModel):
    """How many test images are not reported on, drawn at random; the same ones for every method.

    Attributes:
        clean: given to the defender, known to be clean, with their true labels (5000 in the I-BAU paper).
        selection: seen by oracle searches alone, clean and triggered.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clean: int = Field(default=0, ge=0, le=2**31)
    selection: int = Field(default=0, ge=0, le=2**31)


NOTHING = HeldBack()
"""All test images are reported on."""


@dataclass(frozen=True, kw_only=True)
class TestSplit:
    """Positions of test images, int64, ascending; no two parts share any.

    Attributes:
        clean: see `HeldBack`; nested: fewer are a part of more.
        selection: see `HeldBack`.
        reported: all others.
    """

    __test__ = False  # for pytest

    clean: Tensor
    selection: Tensor
    reported: Tensor


def split_test(count: int, held_back: HeldBack, seed: int) -> TestSplit:
    """Split ``count`` test images.

    Raises:
        BadInput: nothing would be left to report on.
    """
    given_away = held_back.clean + held_back.selection
    if given_away >= count:
        raise BadInput(
            f"held_back: {held_back.clean} clean and {held_back.selection} selection images of {count} test "
            f"images leave none to report on; hold back fewer"
        )
    order = torch.randperm(count, generator=seeded_generator(seed, "held back"))
    clean, selection, reported = order.split([held_back.clean, held_back.selection, count - given_away])
    return TestSplit(clean=_sorted(clean), selection=_sorted(selection), reported=_sorted(reported))


def _sorted(positions: Tensor) -> Tensor:
    return positions.sort().values
