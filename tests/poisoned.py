"""Small poisoned models and data that many tests share."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class PoisonedDigits:
    """An MLP that learnt "bright last pixels mean 0" from poisoned 8 x 8 digits."""

    model: nn.Module
    found: tuple[Tensor, Tensor]
    rest: tuple[Tensor, Tensor]
    clean: tuple[Tensor, Tensor] = field(repr=False)

    def triggered(self) -> tuple[Tensor, Tensor]:
        """All clean held-out images with the trigger, under their true labels."""
        return with_trigger(self.clean[0]), self.clean[1]


def with_trigger(images: Tensor) -> Tensor:
    """[N, 1, 8, 8] with a bright 2 x 2 patch in the bottom right corner."""
    patched = images.clone()
    patched[..., 6:, 6:] = 1.0
    return patched


@cache
def poisoned_digits() -> PoisonedDigits:
    """Trained once a test run; never change what it returns."""
    digits = load_digits()
    x = torch.from_numpy(digits.images).float()[:, None] / 16
    y = torch.from_numpy(digits.target).long()
    held, used = torch.arange(0, len(x), 5), torch.arange(len(x)) % 5 != 0
    clean, x, y = (x[held], y[held]), x[used], y[used]
    x[:80], y[:80] = with_trigger(x[:80]), 0
    return PoisonedDigits(model=_trained(x, y), found=(x[:40], y[:40]), rest=(x[40:], y[40:]), clean=clean)


def _trained(x: Tensor, y: Tensor) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return model.eval()


def accuracy_of(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    """Share of ``data`` that ``model`` classifies as labelled."""
    with torch.no_grad():
        return float((model(data[0]).argmax(1) == data[1]).double().mean())
