"""The registry of methods that train: names, defaults, spaces, and what a run is said to cost."""

from __future__ import annotations

import copy
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from theriac.errors import BadInput
from theriac.search.given.samples import HeldSamples
from theriac.search.report.table import METHOD_NAMES
from theriac.search.training.registry import (
    TRAINED,
    check_parameters,
    check_space,
    defaults,
    from_recipe,
    unlearner,
)
from theriac.search.training.settings import NEEDS_CLEAN, TRAINED_METHODS, TrainedMethod
from theriac.search.training.spaces import SPACES, Choice, Range
from theriac.tests.poisoned import poisoned_digits
from theriac.unlearning.methods.unlearner import Known
from theriac.unlearning.training import Recipe

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


def test_every_method_is_everywhere():
    assert set(TRAINED) == set(TRAINED_METHODS) == set(get_args(TrainedMethod)) == set(SPACES) == set(SHORT)
    assert set(TRAINED) <= set(METHOD_NAMES)
    assert {name for name, kind in TRAINED.items() if "clean" in kind.needs} == set(NEEDS_CLEAN)


@pytest.mark.parametrize("method", TRAINED)
def test_defaults_survive_json_and_say_what_they_need(method: str):
    assert unlearner(method, defaults(method, {})) == TRAINED[method]()
    with pytest.raises(ValueError, match="needs"):
        TRAINED[method]()(POISONED.model, Known())


def test_cf_takes_the_recipe_of_the_victim_and_others_how_images_are_augmented():
    recipe = Recipe(iterations=7, learning_rate=0.3, augmentation="crop")
    assert unlearner("cf", from_recipe("cf", recipe)).model_dump(include=set(Recipe.model_fields)) == (
        recipe.model_dump()
    )
    for method in TRAINED:
        assert method == "cf" or from_recipe(method, recipe) == (
            {"augmentation": "crop"} if method in ("ft", "fp", "nad", "nc") else {}
        )


@pytest.mark.parametrize("method", TRAINED)
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


@pytest.mark.parametrize("method", TRAINED)
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


@pytest.mark.parametrize("method", TRAINED)
def test_frozen_parameters_take_part_in_every_method(method: str):
    sets = (POISONED.found, POISONED.rest, POISONED.clean)
    forget, retain, clean = (HeldSamples(*data, PIXELS) for data in sets)
    known = Known(forget=forget, retain=retain, clean=clean)
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


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({"learning_rate": "1e-3"}, {"learning_rate": 0.001}),
        ({"learning_rate": 1}, {"learning_rate": 1.0}),
        ({"weight_decay": -0.0}, {"weight_decay": 0.0}),
        ({"iterations": 5.0, "augmentation": "none"}, {"iterations": 5, "augmentation": "none"}),
    ],
)
def test_equal_values_are_taken_as_one(given: dict[str, Any], taken: dict[str, Any]):
    found = check_parameters("cf", given)
    assert repr(found) == repr(taken)
    assert check_parameters("cf", found) == found


def test_of_what_is_nested_only_what_was_given_is_kept():
    given: dict[str, Any] = {"reversal": {"rounds": "25"}, "augmentation": "none"}
    assert check_parameters("nc", given) == {"reversal": {"rounds": 25}, "augmentation": "none"}
    assert check_parameters("ibau", {"named": "paper"}) == {"named": "paper"}


def test_true_is_no_number():
    with pytest.raises(BadInput, match="learning_rate = True: give a number, not true or false"):
        check_parameters("cf", {"learning_rate": True})


def test_choices_are_taken_as_the_method_does():
    space = check_space(
        "cf", {"learning_rate": Choice(choices=("1e-3", 1)), "iterations": Range(low=2, high=9)}, {}
    )
    assert space == {"learning_rate": Choice(choices=(0.001, 1.0)), "iterations": Range(low=2, high=9)}
    with pytest.raises(ValueError, match="two are the same"):
        check_space("cf", {"learning_rate": Choice(choices=("1e-3", 0.001))}, {})
