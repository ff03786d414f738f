"""The closing sentence of `theriac heal`, for every status of every search and method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from theriac.cluster.commands.closing_sentence import verdict
from theriac.search.heal import Healing
from theriac.search.settings import SEARCHES
from theriac.search.training.registry import TRAINED_METHODS

FOLDER = Path("out")
METRICS: dict[str, Any] = {
    "forget_count": 20,
    "forget_accuracy_before": 1.0,
    "forget_accuracy": 0.15,
    "forget_threshold": 0.2,
    "agreement": 0.987,
    "target_kept": 0.9,
    "target_rate_before": 0.12,
    "target_rate": 0.11,
    "retain_accuracy_before": 0.99,
    "retain_accuracy": 0.98,
    "other_accuracy_before": 0.99,
    "other_accuracy": 0.98,
    "largest_gain": 0.01,
    "classes_seen": 1.0,
    "apart": True,
}


def said(
    status: str, method: str = "xlf", search: str = "ptn", *, doubts: tuple[str, ...] = (), **metrics: Any
) -> str:
    healing = Healing(
        model=nn.Identity(),
        status=status,
        alpha=None,
        dampening_constant=None,
        trace=(),
        metrics={**METRICS, **metrics},
        settings={"method": method, "search": search, "collapse_drop": 0.1, "collapse_share": 0.25},
        warnings=doubts,
    )
    return verdict(healing, FOLDER)


@pytest.mark.parametrize(
    ("count", "accuracy", "words"),
    [
        (20, 0.15, "3 of 20 found images are still read as labelled (the poison's label)"),
        (20, 0.0, "none of 20 found images is still read"),
        (20, 0.05, "1 of 20 found images is still read"),
        (1, 0.0, "none of 1 found image is still read"),
    ],
)
def test_a_healed_model_comes_with_what_the_found_images_show(count: int, accuracy: float, words: str):
    text = said("stopped", forget_count=count, forget_accuracy=accuracy)
    assert text.startswith("healed model: out/model.safetensors; ")
    assert words in text
    assert "1.3 % of the predictions on other retain images changed" in text


CASES: list[tuple[str, str, tuple[str, ...]]]
CASES = [("xlf", search, ("not_healed", "no_stop", "collapsed")) for search in SEARCHES]
CASES += [(method, "tpe", ("not_healed", "no_stop", "collapsed", "failed")) for method in TRAINED_METHODS]
CASES += [(method, "fixed", ("not_healed", "collapsed", "failed")) for method in TRAINED_METHODS]


@pytest.mark.parametrize(
    ("method", "search", "status"),
    [(method, search, status) for method, search, statuses in CASES for status in statuses],
)
def test_what_is_not_healed_is_never_called_so(method: str, search: str, status: str):
    text = said(status, method, search, forget_accuracy=0.64, unchanged=False)
    assert "healed model" not in text
    assert "out holds the weights that came in. Try" in text
    assert len(text.splitlines()) == 1
    if status == "not_healed":
        assert text.startswith("not healed: ")
        assert "13 of 20 found images are still read as labelled (the poison's label), and 4 may be" in text


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"target_kept": 0.02}, ": 2 % are left of what was predicted as the poison's label; "),
        ({"other_accuracy": 0.6}, ": 39.0 points of accuracy on other classes are lost; "),
        ({"largest_gain": 0.5}, ": one class gained 50 % of all predictions; "),
        (
            {"agreement": 0.2, "target_kept": 0.0},
            "label, only 20 % of other predictions are as before; ",
        ),
    ],
)
def test_a_collapsed_model_comes_with_the_reason(metrics: dict[str, Any], words: str):
    assert words in said("collapsed", **metrics)


def test_a_run_that_gave_the_model_back_says_so():
    text = said("not_healed", "ibau", "fixed", forget_accuracy=1.0, unchanged=True)
    assert "gave the model back as it was" in text
    assert "20 of 20" in text


@pytest.mark.parametrize("status", ["not_healed", "no_stop", "collapsed"])
def test_a_doubt_comes_before_any_other_advice(status: str):
    text = said(status, doubts=("retain set: labels in another order",), forget_accuracy=0.5)
    assert text.endswith("Before anything else: retain set: labels in another order")
    assert "--rho" not in text
    assert "more found samples" not in text


def test_a_healing_in_doubt_is_not_praised_alone():
    assert "see the warning above" in said("stopped", doubts=("retain set: odd",))
    assert "warning" not in said("stopped")


def test_a_guarded_search_says_what_it_costs():
    harms: dict[str, Any] = {"harm": 0.012, "harm_at_most": 0.02, "harm_if_wrong": 0.05}
    assert "estimated loss of accuracy: 1.2 points, 2.0 at most; 5.0 if" in said(
        "stopped", search="guarded", **harms
    )
    assert "no more than others of their class" in said("no_stop", search="guarded", apart=False)
