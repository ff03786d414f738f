"""No argument of a healing is ignored: it is used, or refused by its name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import theriac
from theriac.datasets.sources.digits import load_digits
from theriac.datasets.views import plain_view
from theriac.errors import BadInput
from theriac.search.settings import METHODS
from theriac.search.training.registry import TRAINED_METHODS
from theriac.search.used_arguments import USED_BY, refuse_unused
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()
GIVEN: dict[str, Any] = {
    "clean": POISONED.clean,
    "base": POISONED.model,
    "mean": (0.0,),
    "std": (1.0,),
    "seed": 0,
}


def test_every_argument_is_judged_for_every_method():
    assert set(GIVEN) == set(USED_BY)
    known = {*METHODS, *TRAINED_METHODS}
    assert all(set(methods) <= known for methods in USED_BY.values())


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("method", [*METHODS, *TRAINED_METHODS])
def test_what_a_method_does_not_use_is_refused(method: str, name: str):
    if method in USED_BY[name]:
        refuse_unused(method, **{name: GIVEN[name]})
        return
    with pytest.raises(BadInput, match=f"{name}=...: the method {method} does not use this; leave it out"):
        theriac.heal(POISONED.model, POISONED.found, POISONED.rest, method, **{name: GIVEN[name]})


def test_what_is_not_given_is_not_refused():
    refuse_unused("xlf", clean=None, base=None, mean=None, std=None, seed=None)
    refuse_unused("no method", seed=3)


def test_views_know_their_own_normalisation():
    source = load_digits(8)[0]
    view = plain_view(source)
    found, rest = view.select(torch.arange(5)), view.select(torch.arange(5, 50))
    with pytest.raises(BadInput, match="Views know how"):
        theriac.heal(POISONED.model, found, rest, "npo", mean=(0.5,), std=(0.5,))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "ga", "search": "fixed", "samples": 3}, "the search 'fixed' does not use this"),
        ({"search": "grid", "rho": 0.1}, "the search 'grid' does not use this"),
        ({"search": "ptn", "samples": 3}, "the search 'ptn' does not use this"),
        ({"parameters": {"steps": 3}}, "unknown setting 'parameters'"),
        (
            {"method": "cf", "samples": 3, "parameters": {"learning_rate": 0.1, "weight_decay": 0.1}},
            "samples: parameters fix every hyperparameter of cf",
        ),
    ],
)
def test_settings_of_another_search_are_refused(settings: dict[str, Any], said: str):
    with pytest.raises(BadInput, match=said):
        theriac.heal(POISONED.model, POISONED.found, POISONED.rest, **settings)
