"""What candidates are worth, and which of them nothing beats."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from theriac.search.training.objectives import pareto_front, parts, score, told
from theriac.search.training.settings import TuneSettings

ROW = {
    "status": "done",
    "forget_accuracy": 0.35,
    "agreement": 0.9,
    "selection_clean_accuracy": 0.8,
    "selection_healed_raw": 0.6,
    "clean_accuracy": 0.1,
    "healed_raw": 0.2,
}
POINTS = st.lists(st.none() | st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12)


def test_the_deployable_objective_aims_at_rho_and_at_agreement():
    both = parts(TuneSettings(method="rga", rho=0.2), ROW, 0.75)
    assert both == pytest.approx((-0.2, -0.1))
    assert score(both) == pytest.approx(-0.3)
    truth_changed = {**ROW, "healed_raw": 1.0, "selection_healed_raw": 1.0, "clean_accuracy": 1.0}
    assert parts(TuneSettings(method="rga"), truth_changed, 0.75) == both, "it must not see truth"


def test_the_oracle_sees_what_is_set_aside_and_not_what_is_reported():
    settings = TuneSettings(method="rga", objective="oracle")
    both = parts(settings, ROW, 0.75)
    assert both == (0.6, 0.8)
    assert parts(settings, {**ROW, "healed_raw": 1.0, "clean_accuracy": 1.0}, 0.75) == both
    assert told(settings, both) == pytest.approx((1.4,))
    assert told(TuneSettings(method="rga", objective="oracle", pareto=True), both) == (0.6, 0.8)


def test_a_failure_is_worth_nothing():
    failed = {"status": "failed"}
    for settings in (TuneSettings(method="ga"), TuneSettings(method="ga", objective="oracle")):
        assert parts(settings, failed, 0.9) is None
    assert score(None) is None
    assert told(TuneSettings(method="ga"), None) is None


@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list):
    front = pareto_front(points)
    for point, on_front in zip(points, front, strict=True):
        better = [o for o in points if o and point and o != point and o[0] >= point[0] and o[1] >= point[1]]
        assert on_front == (point is not None and not better)
    assert any(front) == any(point is not None for point in points)
