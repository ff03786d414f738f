"""How many samples are worked on at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from theriac.tests.importance_models import SequenceFirst, data, make, randomise
from theriac.unlearning import sample_importance
from theriac.unlearning.importance import estimate_importance
from theriac.unlearning.sample_importance import SampleSums
from theriac.unlearning.sensitivities import Sensitivity
from theriac.unlearning.traversal import Traversal
from theriac.unlearning.working_model import WorkingModel


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the chunks whose gradients are taken."""
    seen: list[int] = []
    gradients = Traversal.gradients

    def sized(self: Traversal, x: Tensor, y: Tensor) -> Any:
        seen.append(len(x))
        return gradients(self, x, y)

    monkeypatch.setattr(Traversal, "gradients", sized)
    return seen


def sums_of(model: torch.nn.Module, x: Tensor, y: Tensor) -> SampleSums:
    sums = SampleSums(WorkingModel(model), [Sensitivity("xlf", 1.0)], None)
    sums.add(x, y)
    return sums


def test_a_chunk_fits_what_the_check_found(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The check moves a layer to the slow path, so the very chunk it looked at must become smaller."""
    torch.manual_seed(0)
    model, ((x, y),) = randomise(SequenceFirst()).eval(), data(24, batch=24)
    before, needs = (
        next(iter(sums_of(model, *part)._traversals.values())).bytes_per_sample(x[:2], y[:2])
        for part in ((x[:0], y[:0]), (x, y))
    )
    assert 9 * needs // before > 9
    sizes.clear()
    monkeypatch.setattr(sample_importance, "budget", lambda _: 9 * needs)
    sums_of(model, x, y)
    assert sizes == [9, 9, 6]


def test_no_chunk_is_larger_than_512(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_importance, "budget", lambda _: 1 << 60)
    estimate_importance(make("linear"), data(600, batch=600))
    assert sizes == [512, 88]
