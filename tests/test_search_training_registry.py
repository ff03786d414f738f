"""What every method that trains keeps to. A new method is a row of `SHORT`."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.search.given.samples import HeldSamples
from theriac.search.methods import BASELINES, METHOD_ENTRIES
from theriac.search.settings import METHODS
from theriac.search.training.parameters import defaults, from_recipe, unlearner
from theriac.search.training.registry import NEEDS_CLEAN, TRAINED_METHODS, TrainedMethod
from theriac.tests.poisoned import poisoned_digits
from theriac.unlearning.methods.unlearner import Known
from theriac.unlearning.training import Recipe, TrainingDiverged

POISONED = poisoned_digits()
PIXELS = ((0.0,), (1.0,))
SHORT: dict[str, dict[str, Any]] = {
    "cf": {"iterations": 6, "batch_size": 64, "augmentation": "none"},
    "ft": {"epochs": 2, "augmentation": "none"},
    "fp": {"epochs": 2, "augmentation": "none", "accuracy_drop": 1.0},
    "nad": {"epochs": 2, "teacher_epochs": 2, "augmentation": "none"},
    "nc": {"epochs": 1, "augmentation": "none", "reversal": {"rounds": 6, "steps": 4}, "threshold": 0.1},
    "ibau": {"rounds": 1, "batch_size": 50, "batches": None},
    "ga": {"steps": 6},
    "npo": {"steps": 6},
    "rga": {"steps": 6},
}
WITHOUT_CHANCE: tuple[str, ...] = ()
"""Methods that draw nothing: every seed gives the same model."""


def test_every_method_has_a_row():
    assert list(SHORT) == list(TRAINED_METHODS) == list(get_args(TrainedMethod))
    assert list(METHOD_ENTRIES) == [*BASELINES, *TRAINED_METHODS, *METHODS]
    assert len({entry.title for entry in METHOD_ENTRIES.values()}) == len(METHOD_ENTRIES)
    needing = [name for name, entry in TRAINED_METHODS.items() if "clean" in entry.load().needs]
    assert needing == list(NEEDS_CLEAN)


@pytest.mark.parametrize("method", SHORT)
def test_defaults_survive_json_and_say_what_they_need(method: str):
    assert unlearner(method, defaults(method, {})) == TRAINED_METHODS[method].load()()
    with pytest.raises(ValueError, match="needs"):
        TRAINED_METHODS[method].load()()(POISONED.model, Known())


def test_cf_takes_the_recipe_of_the_victim_and_others_how_images_are_augmented():
    recipe = Recipe(iterations=7, learning_rate=0.3, augmentation="crop")
    assert unlearner("cf", from_recipe("cf", recipe)).model_dump(include=set(Recipe.model_fields)) == (
        recipe.model_dump()
    )
    taking = {"cf": "all", **dict.fromkeys(("ft", "fp", "nad", "nc"), "augmentation")}
    assert taking.items() <= {name: entry.recipe for name, entry in TRAINED_METHODS.items()}.items()
    given = {"augmentation": {"augmentation": "crop"}, "all": recipe.model_dump(mode="json"), None: {}}
    for method, entry in TRAINED_METHODS.items():
        assert from_recipe(method, recipe) == given[entry.recipe]


@pytest.mark.parametrize("method", SHORT)
def test_nothing_is_augmented_that_was_not_asked_for(method: str):
    assert defaults(method, {})["augmentation"] == "none"


class Counting(nn.Module):
    """A small convolutional model that counts the images it passes forward; copies share the count."""

    def __init__(self, passed: list[int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 8, 3)
        self.pool = nn.MaxPool2d(2)
        self.linear = nn.Linear(72, 10)
        self.passed = passed

    def forward(self, x: Tensor) -> Tensor:
        self.passed.append(len(x))
        logits: Tensor = self.linear(self.pool(torch.relu(self.conv(x))).flatten(1))
        return logits

    def __deepcopy__(self, memo: dict[int, Any]) -> Counting:
        twin = Counting(self.passed)
        twin.load_state_dict(copy.deepcopy(self.state_dict(), memo))
        return twin.train(self.training)


@pytest.mark.parametrize("method", SHORT)
def test_work_is_about_what_a_run_passes(method: str):
    passed: list[int] = []
    model = Counting(passed).eval()
    sets = {"forget": POISONED.found, "retain": POISONED.rest, "clean": POISONED.clean}
    samples = {name: HeldSamples(*data, PIXELS) for name, data in sets.items()}
    one = unlearner(method, SHORT[method])
    one(model, Known(forget=samples["forget"], retain=samples["retain"], clean=samples["clean"]))
    work = one.work({"forget": 40, "retain": len(samples["retain"]), "clean": len(samples["clean"])}, 10)
    assert sum(passed) <= 1.15 * work, "more was passed forward than was said, not counting backward passes"
    assert work <= 4.0 * sum(passed), "backward passes count two at most"


def known_sets() -> Known:
    sets = (POISONED.found, POISONED.rest, POISONED.clean)
    forget, retain, clean = (HeldSamples(*data, PIXELS) for data in sets)
    return Known(forget=forget, retain=retain, clean=clean)


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("method", SHORT)
def test_a_seed_decides_what_becomes_of_a_victim_which_stays_as_it_is(method: str):
    one, victim, known = unlearner(method, SHORT[method]), Convolutional().train(), known_sets()
    before = weights(victim)
    first, again, other = (one(victim, known, seed=seed) for seed in (3, 3, 4))
    assert same(weights(first.model), weights(again.model))
    assert same(weights(victim), before)
    assert victim.training
    assert not first.model.training
    assert [row["round"] for row in first.trace] == list(range(1, len(first.trace) + 1))
    assert not same(weights(first.model), before)
    if method not in WITHOUT_CHANCE:
        assert not same(weights(first.model), weights(other.model))


@pytest.mark.parametrize("method", SHORT)
def test_a_run_that_diverges_says_so(method: str):
    victim = Convolutional().eval()
    with torch.no_grad():
        last = victim[-1]
        assert isinstance(last, nn.Linear)
        last.weight.fill_(1e38)
    with pytest.raises((TrainingDiverged, BadInput), match=r"finite|the loss is|lower"):
        unlearner(method, SHORT[method])(victim, known_sets())


@pytest.mark.parametrize("method", SHORT)
def test_frozen_parameters_take_part_in_every_method(method: str):
    known = known_sets()
    one, victim = unlearner(method, SHORT[method]), Convolutional().eval()
    expected = one(victim, known).model
    for flags in ([False] * 4, [False, True, False, True]):
        frozen = copy.deepcopy(victim)
        for parameter, flag in zip(frozen.parameters(), flags, strict=True):
            parameter.requires_grad_(flag)
        found = one(frozen, known).model
        assert [parameter.requires_grad for parameter in found.parameters()] == flags
        assert [parameter.requires_grad for parameter in frozen.parameters()] == flags
        for (name, value), its in zip(found.named_parameters(), expected.parameters(), strict=True):
            assert torch.equal(value, its), name


class Convolutional(nn.Sequential):
    """A small network of the shape of `Counting`, drawn always alike."""

    def __init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            layers = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 10)
        super().__init__(*layers)
