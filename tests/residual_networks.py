"""What the tests of our residual networks have in common."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from theriac.tests import reference
from theriac.tests.importance_models import randomise
from theriac.unlearning.importance.estimate import estimate_importance
from theriac.unlearning.models.build import ModelSpec, create_model

TINY = 1 / 40


def tiny(name: str, side: int = 8) -> nn.Module:
    """A few channels; scales, shifts and running statistics far from those of a fresh model."""
    model = create_model(ModelSpec(name=name, width=TINY), num_classes=3, shape=(3, side, side), seed=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return randomise(model)


def assert_fast_importances_are_exact(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Equal to one autograd call a sample in float64, without a word about a slow path."""
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(5, 3, 8, 8, generator=generator), torch.tensor([0, 1, 2, 0, 1])
    model = tiny(name).double()
    batches = [(x[:3].double(), y[:3]), (x[3:].double(), y[3:])]
    with caplog.at_level(logging.DEBUG, logger="theriac"):
        found = estimate_importance(model, batches, kind="xlf", granularity="sample").mean()
    assert not caplog.records
    for parameter, slow in reference.importances(model, batches, "xlf", "sample").items():
        torch.testing.assert_close(
            found[parameter].double(), slow, rtol=1e-5, atol=1e-9 + 1e-6 * slow.max().item()
        )


def assert_takes_images_of_any_size(name: str) -> None:
    for shape in ((1, 8, 8), (3, 9, 15), (3, 33, 8), (1, 28, 28)):
        model = create_model(ModelSpec(name=name, width=TINY), num_classes=4, shape=shape).eval()
        assert model(torch.randn(2, *shape)).shape == (2, 4)


def assert_forward_keeps_its_input(name: str) -> None:
    model, x = tiny(name).eval(), torch.randn(2, 3, 8, 8)
    before = x.clone()
    alone = torch.cat([model(x[:1]), model(x[1:])])
    torch.testing.assert_close(model(x), alone, rtol=1e-4, atol=1e-5)
    assert torch.equal(x, before)
