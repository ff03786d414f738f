"""What is said beside the verdict on a healing."""

from __future__ import annotations

from typing import Any

import pytest

from theriac.search.notes import FEW, notes_on

METRICS = {"forget_count": 20, "target_kept": 0.9, "classes_seen": 1.0}


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ({"forget_count": 1}, "1 found image shows little"),
        ({"forget_count": FEW}, "3 found images show little"),
        ({"target_kept": 0.25}, "reads 25% of the retain images as the poison's label"),
        ({"classes_seen": 0.2}, "retain holds samples of 20% of the model's classes"),
    ],
)
def test_a_healed_model_is_no_proof(metrics: dict[str, Any], words: str) -> None:
    (note,) = notes_on("stopped", {**METRICS, **metrics})
    assert words in note
    assert "\n" not in note


@pytest.mark.parametrize("status", ["not_healed", "no_stop", "collapsed", "failed"])
def test_nothing_is_said_of_the_model_that_came_in(status: str) -> None:
    assert notes_on(status, {"forget_count": 1}) == ()


def test_there_is_nothing_to_add_to_a_healing_with_evidence() -> None:
    assert notes_on("done", {**METRICS, "forget_count": FEW + 1}) == ()
