"""Telling forgotten normalisation from a weak victim: a model that knows its images only if read rightly."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from theriac.search.given.batches import as_batches
from theriac.search.given.normalisation_signs import better_reading
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()
X, Y = POISONED.rest
CPU = torch.device("cpu")


class Template(nn.Module):
    """Knows images of one colour by the value of their first channel, from ``low`` to ``high``, in classes.

    Args:
        low, high: what the darkest and the brightest class have.
        classes: evenly spaced between.
    """

    def __init__(self, low: float, high: float, classes: int = 5) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.linspace(low, high, classes))

    def forward(self, x: Tensor) -> Tensor:
        return -(x[:, 0].flatten(1).mean(1, keepdim=True) - self.centres).square()


def stripes(channels: int = 1) -> tuple[Tensor, Tensor]:
    """Pixels in [0, 1] whose first channel tells the class, 100 of each; the others are flat."""
    labels = torch.arange(5).repeat(100)
    images = torch.full((500, channels, 4, 4), 0.5)
    images[:, 0] = (labels / 4).view(-1, 1, 1)
    if channels > 1:
        images[:, 1:, 0, 0], images[:, 1:, 0, 1] = 0.0, 1.0
    return images, labels


def reading(model: nn.Module, x: Tensor, y: Tensor):
    return better_reading(model.eval(), as_batches((x, y), name="set", device=CPU))


@pytest.mark.parametrize(
    ("model", "change", "words"),
    [
        (Template(-1.42, 1.42), lambda x: x, "which are their own"),
        (Template(0.0, 1.0), lambda x: (x - 0.5) / 0.1, "in [0, 1]"),
    ],
)
def test_a_forgotten_or_repeated_normalisation_is_certain(model: nn.Module, change, words: str):
    x, y = stripes()
    found = reading(model, change(x), y)
    assert found is not None
    assert found.certain
    assert words in found.text
    assert found.agreement > 0.9
    assert found.before < 0.7


def test_brighter_images_may_only_drown_wrong_biases():
    x, y = stripes()
    found = reading(Template(0.0, 255.0), x, y)
    assert found is not None
    assert (found.text, found.agreement, found.certain) == ("in [0, 255]", 1.0, False)


def test_channels_in_reverse_order():
    x, y = stripes(3)
    found = reading(Template(0.0, 1.0), x.flip(1), y)
    assert found is not None
    assert found.certain
    assert "reverse order" in found.text


def test_a_victim_whose_images_are_right_has_no_better_reading():
    assert reading(POISONED.model, X, Y) is None


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_victim_is_not_taken_for_a_misread_one(seed: int):
    model = copy.deepcopy(POISONED.model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * parameter.std() * torch.randn(parameter.shape, generator=generator))
    found = reading(model, X, Y)
    assert found is None or not found.certain


def test_noisy_labels_have_no_better_reading():
    drawn = torch.randint(10, Y.shape, generator=torch.Generator().manual_seed(0))
    noisy = torch.where(torch.arange(len(Y)) % 2 == 0, drawn, Y)
    assert reading(POISONED.model, X, noisy) is None


@pytest.mark.parametrize("count", [1, 19])
def test_few_samples_tell_nothing(count: int):
    assert reading(POISONED.model, X[:count] * 5 + 3, Y[:count]) is None


def test_numbers_of_words_are_no_images():
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.EmbeddingBag(7, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.embedding(x)

    assert reading(Words(), torch.zeros(30, 4, dtype=torch.int64), torch.ones(30, dtype=torch.int64)) is None
