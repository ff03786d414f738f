"""All figures of a results folder: what is drawn, what is read for it, and what is said of the rest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from theriac.errors import BadInput
from theriac.search.report import all_figures
from theriac.search.report.all_figures import MOST, result_figures
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
PTN: dict[str, Any] = {
    **SOUND,
    **{"method": "xlf", "search": "ptn", "granularity": "sample", "status": "stopped", "steps": 3},
    **{"healed": 90.0, "healed_raw": 0.8, "damage": -1.0, "s": 0.2, "seconds_search": 1.0},
}
GUARDED = {**PTN, "search": "guarded", "dampened": 40, "alpha": 2.0}


def steps(search: str, **columns: Any) -> list[dict[str, Any]]:
    return [
        {"key": f"{search}-{k}", "search": search, "step": k, "s": 0.1 * k, "after_stop": False, **columns}
        for k in (1, 2, 3)
    ]


def walked(search: str) -> list[dict[str, Any]]:
    values = {"forget_accuracy": 0.5, "clean_accuracy": 0.9, "healed_raw": 0.4}
    return steps(search, **values)


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


def test_what_was_counted_over_nothing_is_not_drawn(tmp_path: Path) -> None:
    results = ResultsStore(tmp_path)
    results.append("searches", [{"key": "a", **PTN, "healed_raw": math.nan}])
    with pytest.raises(BadInput, match="no scored cell to draw; wait"):
        result_figures(tmp_path, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
    results.append("searches", [{"key": "b", **PTN, "healed": math.nan}])
    assert result_figures(tmp_path, tmp_path / "figures").paths


def test_every_kind_that_rows_allow_is_drawn(tmp_path: Path) -> None:
    results = ResultsStore(tmp_path)
    rows = [
        {"key": "a", **PTN, "settings": '{"rho": 0.2}'},
        {"key": "b", **PTN, "settings": '{"rho": 0.4}'},
        {"key": "g", **GUARDED},
        {"key": "t", **PTN, "method": "rga", "search": "tpe", "granularity": None},
    ]
    results.append("searches", rows)
    trial = {"forget_accuracy": 0.5, "agreement": 0.9, "healed_raw": 0.4, "parameters": "{}"}
    flips = {"suspected_healed": 0.5, "flips_target": 0.1, "flips_other": 0.0, "dampened": 4}
    both = [*walked("a"), *walked("b"), *steps("t", **trial)]
    results.append("steps", [*both, *steps("g", status="accepted", **flips)])
    drawn = result_figures(tmp_path, tmp_path / "figures", ending="svg")
    assert sorted(path.name for path in drawn.paths) == [
        "digits-resnet9-badnets-sample.svg",
        "guarded-digits-resnet9-badnets-100-0.2-0-xlf-sample.svg",
        "healed-damage-digits-resnet9-badnets.svg",
        "sensitivity-digits-resnet9-badnets-100-0.2-sample.svg",
        "times-digits-resnet9-badnets-100.svg",
        "tradeoff-digits-resnet9-badnets-100-0.2-0-rho_0.2.svg",
        "tradeoff-digits-resnet9-badnets-100-0.2-0-rho_0.4.svg",
        "trials-digits-resnet9-badnets-100-0.svg",
    ]
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {path.name for path in drawn.paths}
    assert drawn.left_out == {}


def test_at_most_so_many_of_a_kind_are_drawn_and_the_rest_is_counted(tmp_path: Path) -> None:
    results = ResultsStore(tmp_path)
    results.append("searches", [{"key": f"{k}", **PTN, "attack": f"a{k}"} for k in range(5)])
    results.append("steps", walked("3"))
    drawn = result_figures(tmp_path, tmp_path / "figures", most=4)
    names = [path.name for path in drawn.paths]
    assert len(names) == 3 * 4 + 1
    assert "tradeoff-digits-resnet9-a3-100-0.2-0.png" in names
    assert set(drawn.left_out.values()) == {1}
    assert set(drawn.left_out) == {
        "of healing and damage against share",
        "of healing against damage",
        "of seconds by phase",
        "of trade-offs along a search",
    }
    assert result_figures(tmp_path, tmp_path / "all", most=5).left_out == {}


def test_figures_without_recorded_steps_are_not_counted_as_left_out(tmp_path: Path) -> None:
    ResultsStore(tmp_path).append("searches", [{"key": f"{k}", **PTN, "seed": k} for k in range(MOST + 1)])
    assert result_figures(tmp_path, tmp_path / "figures").left_out == {}


def test_only_steps_that_are_drawn_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Sequence[str], set[str]]] = []

    class Watched(ResultsStore):
        def read(self, table: str, **options: Any) -> Any:
            asked.append((options["columns"], options["searches"]))
            return super().read(table, **options)

    results = ResultsStore(tmp_path)
    results.append("searches", [{"key": f"{k}", **PTN, "seed": k} for k in range(5)])
    results.append("steps", [row for k in range(5) for row in walked(str(k))])
    monkeypatch.setattr(all_figures, "ResultsStore", Watched)
    result_figures(tmp_path, tmp_path / "figures", most=2)
    (columns, searches), *more = asked
    assert more == []
    assert set(searches) == {"0", "1"}
    assert set(columns) == {"search", "s", "after_stop", "forget_accuracy", "clean_accuracy", "healed_raw"}


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    ResultsStore(tmp_path / "results").append("searches", [{"key": "a", **PTN}])
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        result_figures(tmp_path / "results", tmp_path / "file")
