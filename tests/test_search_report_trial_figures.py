"""The figures of trials: one panel a search, what is drawn, and nothing where nothing was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from theriac.search.report.trial_figures import _draw, trial_figures
from theriac.search.store.schemas import SCHEMAS

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


def table(name: str, rows: list[Row]) -> pa.Table:
    full = [{column: row.get(column) for column in SCHEMAS[name].names} for row in rows]
    schema = pa.schema([field.with_nullable(True) for field in SCHEMAS[name]])
    return pa.Table.from_pylist(full, schema=schema)


def test_one_figure_a_scenario_and_one_panel_a_search(tmp_path: Path):
    searches = [search("a"), search("b", method="ibau", parameters=None), search("c", seed=1), search("d")]
    steps = [row for key in "abc" for row in trials(key)]
    figures = trial_figures(table("steps", steps), table("searches", searches), tmp_path)
    assert [figure.name for figure in figures] == [
        "trials-digits-resnet9-badnets-100-0.png",
        "trials-digits-resnet9-badnets-100-1.png",
    ]
    assert all(figure.stat().st_size > 5000 for figure in figures)
    drawn = _draw([search("a"), search("b", parameters=None)], {key: trials(key)[:4] for key in "ab"})
    first, second = drawn.axes[:2]
    assert "RGA" in first.get_title()
    assert "healed_raw 80.0" in first.get_title()
    rings: list[Any] = [line for line in first.lines if line.get_marker() == "o"]
    assert [line.get_path().vertices.tolist() for line in rings] == [[[10.0, 60.0]]]
    assert not [line for line in second.lines if line.get_marker() == "o"]
    fronts: list[Any] = [line for line in first.lines if line.get_marker() != "o"]
    assert len(fronts[0].get_path().vertices) == 3


def test_dampening_has_no_trials(tmp_path: Path):
    steps = [{"key": "x", "search": "a", "alpha": 1.0, "forget_accuracy": 0.5}]
    assert trial_figures(table("steps", steps), table("searches", [search("a")]), tmp_path) == ()
