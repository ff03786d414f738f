"""Hyperparameters of methods that train, as they are given and as they are taken."""

from __future__ import annotations

from typing import Any

import pytest

from theriac.errors import BadInput
from theriac.search.training.parameters import check_parameters, check_space
from theriac.search.training.spaces import Choice, Range


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
