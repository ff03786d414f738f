"""One rule for every method: what the found images show decides whether a model counts as healed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import theriac
from theriac.search.harm import LEAST_TARGET
from theriac.search.heal import Healing
from theriac.search.healed import healed_rho, judged
from theriac.tests.poisoned import accuracy_of, poisoned_digits

POISONED = poisoned_digits()


@pytest.mark.parametrize(
    ("status", "forget_accuracy", "threshold", "expected"),
    [
        ("stopped", 0.2, 0.2, "stopped"),
        ("stopped", 0.07, 0.2 * 0.35, "stopped"),
        ("stopped", 0.21, 0.2, "not_healed"),
        ("done", 0.0, 0.0, "done"),
        ("done", 0.64, 0.2, "not_healed"),
        ("collapsed", 0.0, 0.2, "collapsed"),
        ("no_stop", 1.0, 0.2, "no_stop"),
        ("failed", 1.0, 0.2, "failed"),
    ],
)
def test_the_status_says_what_the_found_images_show(status, forget_accuracy, threshold, expected):
    assert judged(status, forget_accuracy, threshold) == expected


def test_rho_is_the_callers_or_a_fifth_or_what_few_classes_need():
    assert healed_rho(0.4, 0.5, 20) == 0.4
    assert healed_rho(None, 0.12, 20) == 0.2
    assert 0.5 < healed_rho(None, 0.5, 100) < 0.65
    assert healed_rho(None, 0.99, 5) <= 0.95


FEW: dict[str, dict[str, Any]] = {
    "cf": {"parameters": {"iterations": 2}},
    "ft": {"parameters": {"epochs": 1}, "clean": POISONED.clean},
    "nc": {
        "parameters": {"threshold": 100.0, "reversal": {"rounds": 1, "steps": 2}},
        "clean": POISONED.clean,
    },
    "ibau": {"parameters": {"rounds": 1, "batches": 1, "most_damage": 1e-9}, "clean": POISONED.clean},
    "ga": {"parameters": {"steps": 1}},
    "npo": {"parameters": {"steps": 1}},
    "rga": {"parameters": {"steps": 1}},
}


def fixed(method: str, **given: Any) -> Healing:
    sets = {"forget": POISONED.found, "retain": POISONED.rest, "method": method, "search": "fixed"}
    return theriac.heal(POISONED.model, **{**sets, **FEW[method], **given})


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("method", FEW)
def test_a_run_that_leaves_the_poison_is_not_done(method: str):
    found = fixed(method)
    assert accuracy_of(POISONED.model, POISONED.found) == 1.0
    assert found.metrics["forget_accuracy"] > found.metrics["forget_threshold"] == pytest.approx(0.2)
    assert (found.status, found.healed) == ("not_healed", False)
    assert found.summary()["healed"] is False
    assert same_weights(found.model, POISONED.model)


def test_a_run_that_gives_the_model_back_is_known():
    assert fixed("nc").metrics["unchanged"] is True
    assert fixed("npo").metrics["unchanged"] is False


def test_rho_says_how_much_is_enough():
    most = {"parameters": {"steps": 60, "learning_rate": 3e-3}, "collapse_drop": 0.9}
    healing = fixed("npo", **most)
    assert (healing.status, healing.healed) == ("done", True)
    left = healing.metrics["forget_accuracy"]
    assert left > 0
    strict = fixed("npo", rho=left / 2, **most)
    assert (strict.status, strict.metrics["forget_accuracy"]) == ("not_healed", left)
    assert same_weights(strict.model, POISONED.model)


@pytest.mark.parametrize("search", ["grid", "tpe"])
def test_searches_of_dampening_are_judged_alike(search: str):
    pairs = (
        {"alphas": (6.0,), "relative_lambdas": (1.0,)}
        if search == "grid"
        else {"samples": 12, "alpha_range": (6.0, 60.0)}
    )
    healing = theriac.heal(POISONED.model, POISONED.found, POISONED.rest, search=search, **pairs)
    enough = healing.metrics["forget_accuracy"] <= healing.metrics["forget_threshold"]
    assert healing.healed is enough
    assert healing.status == ("stopped" if enough else "not_healed")
    assert same_weights(healing.model, POISONED.model) is not enough


@pytest.mark.parametrize("search", ["grid", "tpe"])
def test_a_target_class_that_is_wiped_out_is_no_healing(search: str):
    """Alphas as small as these select nearly every weight: no retain image is read as 0 any more."""
    pairs = {"alphas": (1.0,)} if search == "grid" else {"samples": 2, "alpha_range": (0.5, 1.0)}
    healing = theriac.heal(POISONED.model, POISONED.found, POISONED.rest, search=search, **pairs)
    assert healing.metrics["target_kept"] < LEAST_TARGET
    assert (healing.status, healing.healed) == ("collapsed", False)
    assert same_weights(healing.model, POISONED.model)
