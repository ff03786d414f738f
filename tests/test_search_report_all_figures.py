"""What is shown of a results folder leaves out rows that no sweep writes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from theriac.errors import BadInput
from theriac.search.report.all_figures import result_figures
from theriac.search.report.finished import finished_searches
from theriac.search.report.table import render, searches_table
from theriac.search.store.results import ResultsStore

SOUND: dict[str, Any] = {
    "dataset": "digits",
    "model": "resnet9",
    "attack": "badnets",
    "share": "0.2",
    "method": "none",
    "manipulated": 100,
    "seed": 0,
    "status": "done",
    "clean_accuracy": 0.9,
    "healed_raw": math.nan,
    "uses_oracle": False,
}
ODD: list[dict[str, Any]] = [
    {"clean_accuracy": math.inf},
    {"asr": -0.1},
    {"manipulated": -(2**63)},
    {"manipulated": None},
    {"seconds_importance": math.inf, "seconds_search": -math.inf},
    {"damage": 1e308},
    {"share": None},
]


@pytest.mark.parametrize("odd", ODD)
def test_impossible_rows_are_named_and_left_out(tmp_path: Path, odd: dict, caplog) -> None:
    ResultsStore(tmp_path).append("searches", [{"key": "good", **SOUND}, {"key": "odd", **SOUND, **odd}])
    searches = finished_searches(tmp_path)
    assert searches["key"].to_pylist() == ["good"]
    assert f"left out 1 rows of results that no sweep writes, such as 'odd': {next(iter(odd))}" in caplog.text
    assert render(searches_table(searches), "csv").count("\n") == 2


def test_nothing_but_impossible_rows_is_no_result(tmp_path: Path) -> None:
    ResultsStore(tmp_path).append("searches", [{"key": "odd", **SOUND, **ODD[0]}])
    for use in (finished_searches, lambda folder: result_figures(folder, folder / "figures")):
        with pytest.raises(BadInput, match="holds no finished searches yet"):
            use(tmp_path)
