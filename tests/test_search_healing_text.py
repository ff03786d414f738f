"""How a healing reads: ten lines, and a table with a curve in notebooks."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

import theriac
from theriac.search.healing import Healing
from theriac.search.healing_text import healing_html, healing_text
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()
SEARCHES: dict[str, dict[str, Any]] = {
    "ptn": {},
    "grid": {"search": "grid", "alphas": (1.0, 5.0, 20.0), "held_out": 100},
    "guarded": {"search": "guarded"},
    "trained": {"method": "ga", "search": "fixed", "parameters": {"steps": 4}, "mean": 0.0, "std": 1.0},
}


@pytest.fixture(scope="module", params=SEARCHES)
def healing(request: pytest.FixtureRequest) -> Healing:
    given = {"method": "xlf", **SEARCHES[request.param]}
    return theriac.heal(POISONED.model, POISONED.found, POISONED.rest, **given)


def test_ten_lines_say_what_became_of_it(healing: Healing) -> None:
    lines = repr(healing).splitlines()
    assert 4 <= len(lines) <= 10
    assert lines[0].split()[:2] == ["status", f"{healing.status}:"]
    assert ("a healed model" in lines[0]) == healing.healed
    after = f"{100 * healing.metrics['forget_accuracy']:.1f} % still read as labelled, 40 samples"
    assert after in repr(healing)
    assert max(map(len, lines)) < 400


def test_the_table_of_a_notebook_holds_the_same_and_a_curve(healing: Healing) -> None:
    shown = healing._repr_html_()
    assert shown.startswith("<table>")
    assert f"{healing.status}:" in shown
    several = len([row for row in healing.trace if row.get("dampened")]) > 1
    assert ("<svg" in shown) == several
    if several:
        ElementTree.fromstring(shown[shown.index("<svg") :])


SUMMARY: dict[str, Any] = {
    "status": "no_stop",
    "healed": False,
    "alpha": None,
    "dampening_constant": None,
    "metrics": {"forget_count": 1},
    "settings": {"method": "<b>", "search": "ptn", "granularity": "sample"},
    "trace": [],
    "warnings": ["labels & images contradict each other"] * 5,
    "notes": [],
}


def test_what_was_not_measured_is_said_and_doubts_come_along() -> None:
    lines = healing_text(SUMMARY).splitlines()
    assert len(lines) <= 10
    assert "not measured" in healing_text(SUMMARY)
    assert [line.split()[0] for line in lines].count("doubt") == 3


def test_html_is_escaped() -> None:
    assert "&lt;b&gt;" in healing_html(SUMMARY)
    assert "labels &amp; images" in healing_html(SUMMARY)
    assert "<svg" not in healing_html(SUMMARY)
