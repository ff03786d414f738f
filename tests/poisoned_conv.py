"""A small convolutional victim on the embedded digits, and what its tests measure."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn

from theriac.datasets.sources.digits import load_digits
from theriac.datasets.sources.images import MemoryImages
from theriac.datasets.views import View, plain_view
from theriac.unlearning.inference import predict
from theriac.unlearning.metrics import accuracy
from theriac.unlearning.training import Recipe, train

TARGET = 0
PATCH = 2
SIDE = 12
MEAN, STD = 0.3, 0.35
CLEAN = 300
POISONED = 100


def view(pixels: Tensor, labels: Tensor) -> View:
    """Samples under their labels, normalised as the victim takes them."""
    classes = tuple(str(digit) for digit in range(10))
    source = MemoryImages(pixels=pixels, labels=labels, classes=classes)
    return plain_view(source, mean=(MEAN,), std=(STD,))


def with_patch(pixels: Tensor) -> Tensor:
    """uint8 [N, 1, H, W] with a bright square of `PATCH` pixels in the bottom right corner."""
    patched = pixels.clone()
    patched[..., -PATCH:, -PATCH:] = 255
    return patched


def clean() -> View:
    """300 clean images that the victim was not trained on."""
    source = load_digits(SIDE)[0]
    return view(source.pixels[:CLEAN], source.labels[:CLEAN])


def retain() -> View:
    """What the victim was trained on: the first `POISONED` samples carry the patch and the target label."""
    source = load_digits(SIDE)[0]
    pixels, labels = source.pixels[CLEAN:].clone(), source.labels[CLEAN:].clone()
    pixels[:POISONED], labels[:POISONED] = with_patch(pixels[:POISONED]), TARGET
    return view(pixels, labels)


def scores(model: nn.Module) -> tuple[float, float]:
    """(clean accuracy, asr) on the test digits."""
    source = load_digits(SIDE)[1]
    others = source.labels != TARGET
    aimed = view(with_patch(source.pixels[others]), torch.full_like(source.labels[others], TARGET))
    clean_accuracy = accuracy(*predict(model, view(source.pixels, source.labels)))
    return clean_accuracy, accuracy(*predict(model, aimed))


def network() -> nn.Sequential:
    """Two sizes of maps, with BatchNorm."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(inplace=True),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
    )


@cache
def _trained(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network()
    recipe = Recipe(iterations=150, batch_size=64, learning_rate=0.1, augmentation="none")
    return train(model, retain(), recipe, seed=seed)


def victim(seed: int = 0) -> nn.Module:
    """A model of its own each time, in eval mode; it is trained once a test run."""
    return copy.deepcopy(_trained(seed))


def same_state(a: nn.Module, b: nn.Module) -> bool:
    """Parameters and buffers are equal bit for bit."""
    its = b.state_dict()
    return all(torch.equal(value, its[name]) for name, value in a.state_dict().items())
