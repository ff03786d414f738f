"""A victim whose weights are set, not trained: what it reads and what it falls for hold on any machine."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from theriac.datasets.sources.digits import load_digits
from theriac.tests.poisoned_conv import MEAN, PATCH, SIDE, STD, TARGET, view

CLASSES = 10
PIXELS = SIDE * SIDE
DARK, BRIGHT = (0 - MEAN) / STD, (1 - MEAN) / STD
SHARP, RIDGE = 8.0, 30.0
GAIN, LEAST = 4.0, 0.05
GRID = 1024
"""Solved weights are rounded to this part of 1, so that a library's last bits play no part."""


def planted() -> nn.Module:
    """A model of its own each time, in eval mode: digits by least squares, and a channel for the patch.

    The channels are the classes' scores, their negatives, and how bright the patch is beyond `LEAST`; the
    last adds to the target's logit alone. So the smallest trigger of the target is the patch, or part of it,
    and its channel is next to silent on clean images.
    """
    return copy.deepcopy(_planted())


@cache
@torch.no_grad()
def _planted() -> nn.Module:
    convolution = nn.Conv2d(1, 2 * CLASSES + 1, SIDE)  # the whole image is its window
    model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(2 * CLASSES + 1, CLASSES))
    scores, patch = _scores(), torch.zeros(SIDE, SIDE)
    patch[-PATCH:, -PATCH:] = GAIN / PATCH**2 / (BRIGHT - DARK)
    unit = torch.cat([patch.flatten(), torch.tensor([-GAIN * (DARK / (BRIGHT - DARK) + LEAST)])])
    hidden = torch.cat([scores, -scores, unit[None]])
    outer = torch.cat([torch.eye(CLASSES), -torch.eye(CLASSES), torch.zeros(CLASSES, 1)], 1)
    outer[TARGET, -1] = GAIN
    model.get_parameter("0.weight").copy_(hidden[:, :-1].view(-1, 1, SIDE, SIDE))
    model.get_parameter("0.bias").copy_(hidden[:, -1])
    model.get_parameter("3.weight").copy_(outer)
    model.get_parameter("3.bias").zero_()
    return model.eval()


def _scores() -> Tensor:
    """Weights of the pixels, and a bias, for every class: ridge regression, float64 [classes, pixels + 1]."""
    source = load_digits(SIDE)[0]
    samples = view(source.pixels, source.labels)
    x, y = samples.batch(torch.arange(len(samples)))
    x = F.pad(x.flatten(1).double(), (0, 1), value=1.0)
    wanted = F.one_hot(y, CLASSES).double() - 1 / CLASSES
    solved = torch.linalg.solve(x.T @ x + RIDGE * torch.eye(PIXELS + 1, dtype=torch.float64), x.T @ wanted)
    return (GRID * SHARP * solved.T).round() / GRID
