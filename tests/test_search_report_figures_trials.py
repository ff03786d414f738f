"""The figures of trials: one panel a search, what is drawn, and nothing where nothing was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from theriac.search.report.figures.trials import MOST_PANELS, trial_drawings
from theriac.tests import drawn_figures
from theriac.tests.drawn_figures import check_texts

Row = dict[str, Any]


def search(key: str, **other: Any) -> Row:
    base = {
        "key": key,
        "dataset": "digits",
        "model": "resnet9",
        "attack": "badnets",
        "manipulated": 100,
        "seed": 0,
        "share": "0.5",
        "method": "rga",
        "search": "tpe",
        "status": "stopped",
        "parameters": "{1}",
        "healed_raw": 0.8,
        "uses_oracle": False,
    }
    return {**base, **other}


def trials(key: str) -> list[Row]:
    return [
        {
            "key": f"{key}{number}",
            "search": key,
            "parameters": f"{{{number}}}",
            "status": "collapsed" if number == 2 else "done",
            "forget_accuracy": 0.1 * number,
            "agreement": 0.5 + 0.1 * number,
            "healed_raw": 0.2 * number,
            "pareto": number > 0,
        }
        for number in range(4)
    ] + [{"key": f"{key}-failed", "search": key, "parameters": "{9}", "status": "failed"}]


def test_one_figure_a_scenario_and_one_panel_a_search(tmp_path: Path, figures: list[Figure]):
    searches = [search("a"), search("b", method="ibau", parameters=None), search("c", seed=1), search("d")]
    steps = [row for key in "abc" for row in trials(key)]
    paths = drawn_figures.draw(trial_drawings, tmp_path, searches, steps)
    assert [path.name for path in paths] == [
        "trials-digits-resnet9-badnets-100-0.png",
        "trials-digits-resnet9-badnets-100-1.png",
    ]
    first, second = figures[0].axes[:2]
    assert first.get_title() == "TPE-RGA, share 0.5\nstopped, healed_raw 80.0"
    assert second.get_title().startswith("TPE-I-BAU")
    rings: list[Any] = [line for line in first.lines if line.get_marker() == "o"]
    assert [line.get_path().vertices.tolist() for line in rings] == [[[10.0, 60.0]]]
    assert not [line for line in second.lines if line.get_marker() == "o"]
    fronts: list[Any] = [line for line in first.lines if line.get_marker() != "o"]
    assert len(fronts[0].get_path().vertices) == 3
    check_texts(figures[0], smallest=9.0)


def test_healing_that_was_not_measured_is_not_drawn_as_none(tmp_path: Path, figures: list[Figure]):
    steps = [{**row, "healed_raw": None} for row in trials("a")]
    drawn_figures.draw(trial_drawings, tmp_path, [search("a")], steps)
    dots: Any = [one for one in figures[0].axes[0].collections if np.asarray(one.get_offsets()).size]
    assert [one.get_facecolor().tolist() for one in dots] == [[[1.0, 1.0, 1.0, 1.0]]] * 2


def test_many_searches_are_several_figures(tmp_path: Path, figures: list[Figure]):
    keys = [f"k{number}" for number in range(MOST_PANELS + 1)]
    searches = [search(key, settings=f'{{"samples": {number}}}') for number, key in enumerate(keys)]
    drawn_figures.draw(trial_drawings, tmp_path, searches, [row for key in keys for row in trials(key)])
    assert len(figures) == 2
    assert "TPE-RGA, samples 3, share 0.5" in figures[0].axes[3].get_title()


def test_dampening_has_no_trials(tmp_path: Path):
    steps = [{"key": "x", "search": "a", "alpha": 1.0, "forget_accuracy": 0.5}]
    assert drawn_figures.draw(trial_drawings, tmp_path, [search("a", method="xlf")], steps) == ()
    assert drawn_figures.draw(trial_drawings, tmp_path, [search("a")], steps) == ()
