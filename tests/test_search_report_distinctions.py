"""Unlike things are never averaged, and what parts the lines of a table is named."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from theriac.errors import BadInput
from theriac.search.report import TableChoice, finished_searches, render, searches_table
from theriac.search.report.result_table import ResultTable
from theriac.tests.filled_results import filled_rows, write

AVERAGED = TableChoice(aggregate=True, where="manipulated = 500 and share = 0.5")
HERE = Path(__file__).parent


def titles(table: ResultTable) -> list[str]:
    return [column.title for column in table.columns]


def shown(table: ResultTable) -> list[dict[str, str]]:
    return [dict(zip(titles(table), cells, strict=True)) for cells in table.cells()]


def test_two_presets_in_one_folder_are_two_lines_and_the_column_that_differs_is_named(tmp_path: Path) -> None:
    rows = filled_rows("cifar10-small", ["seeds=[0, 1]"]) + filled_rows("potion-table1", ["seeds=[2, 3]"])
    searches = finished_searches(write(tmp_path, rows))
    table = searches_table(searches, choice=AVERAGED)
    lines = [row for row in shown(table) if (row["method"], row["granularity"]) == ("PTN-XLF", "batch")]
    assert [(row["width"], row["n"]) for row in lines] == [("0.5", "2"), ("1.0", "2")]
    assert any(
        note.startswith("width 0.5 goes with") and "recipe.iterations 2000" in note
        for note in table.footnotes
    )


def test_three_steps_of_s_are_three_lines(tmp_path: Path) -> None:
    searches = finished_searches(write(tmp_path, filled_rows("potion-table8", ["seeds=[0, 1]"])))
    table = searches_table(searches, choice=AVERAGED)
    settings = [row["settings"] for row in shown(table) if row["method"] == "PTN-XLF"]
    assert settings == [
        "s_step 1.01, max_steps 4790",
        "s_step 1.1, max_steps 500",
        "s_step 2.0, max_steps 500",
    ]
    assert {row["n"] for row in shown(table)} == {"2"}


def test_our_own_digits_results_do_not_average_what_was_compared_otherwise() -> None:
    file = HERE / "benchmarks" / "results" / "guarded-digits.parquet"
    choice = TableChoice(aggregate=True, pool=("seed", "scenario"))
    table = searches_table(pq.read_table(file), choice=choice)
    victims = {(row["attack"], row["seed"]) for row in pq.read_table(file).to_pylist()}
    most = max(sum(attack == a for a, _ in victims) for attack in {attack for attack, _ in victims})
    assert max(row["n"] for row in table.rows) <= most


def test_each_field_of_a_scenario_parts_lines(tmp_path: Path) -> None:
    changes = {
        "recipe.iterations": "scenario.recipe.iterations=77",
        "gate.asr": "scenario.gate.asr=0.1",
        "image_size": "scenario.image_size=20",
        "held_back.selection": "scenario.held_back.selection=50",
        "attack_settings.drawn_from": "scenario.attack.drawn_from=non_target",
    }
    for name, change in changes.items():
        rows = filled_rows("digits-quick") + filled_rows("digits-quick", [change, "seeds=[7]"])
        searches = finished_searches(write(tmp_path / name, rows))
        table = searches_table(searches, choice=TableChoice(aggregate=True))
        assert name in titles(table), name
        assert {row["n"] for row in shown(table)} == {"1"}


def test_csv_says_all_that_parts_its_lines(tmp_path: Path) -> None:
    rows = filled_rows("cifar10-small", ["seeds=[0, 1]"]) + filled_rows("potion-table1", ["seeds=[2, 3]"])
    searches = finished_searches(write(tmp_path, rows))
    text = render(searches_table(searches, choice=TableChoice(aggregate=True)), "csv")
    lines = list(csv.DictReader(io.StringIO(text)))
    told = [tuple(line[name] for name in line if not name.startswith(("damage", "healed"))) for line in lines]
    assert len(set(told)) == len(lines)
    assert {line["width"] for line in lines} == {"0.5", "1.0"}
    assert {line["n"] for line in lines} == {"2"}


def test_pooling_is_said_and_grouping_is_checked(tmp_path: Path) -> None:
    rows = filled_rows("potion-table1", ["seeds=[0, 1]"])
    searches = finished_searches(write(tmp_path, rows))
    goel = TableChoice(
        aggregate=True, where="share != one_shot and method = xlf", pool=("seed", "share", "manipulated")
    )
    (row,) = shown(searches_table(searches, choice=goel))
    assert row["n"] == str(2 * 10 * 3)
    assert "seed and share and manipulated alone" in searches_table(searches, choice=goel).footnotes[0]
    with pytest.raises(BadInput, match="differ in manipulated"):
        searches_table(searches, choice=TableChoice(aggregate=True, by=("method", "share")))
    by = TableChoice(
        aggregate=True, by=("method", "search", "granularity", "share"), pool=("seed", "manipulated")
    )
    assert {row["n"] for row in shown(searches_table(searches, choice=by))} == {"6"}


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"where": "share = 7"}, "no row is chosen by 'share = 7'"),
        ({"where": "shares = 7"}, "no field 'shares'"),
        ({"columns": ("heeled",)}, "no measure 'heeled'; choose from .*healed"),
        ({"aggregate": True, "pool": ("sed",)}, "no field 'sed'"),
        ({"aggregate": True, "statistic": "mode"}, "no statistic 'mode'"),
    ],
)
def test_a_choice_that_makes_no_sense_is_a_line(tmp_path: Path, choice: dict[str, Any], reason: str) -> None:
    searches = finished_searches(write(tmp_path, filled_rows("digits-quick")))
    with pytest.raises(BadInput, match=reason):
        searches_table(searches, choice=TableChoice(**choice))


def test_columns_are_those_asked_for_in_their_order(tmp_path: Path) -> None:
    searches = finished_searches(write(tmp_path, filled_rows("digits-quick")))
    choice = TableChoice(columns=("healed", "damage"))
    asked = titles(searches_table(searches, choice=choice))
    assert [name for name in asked if name in ("healed %", "damage", "alpha", "ASR %")] == [
        "healed %",
        "damage",
    ]


def test_intervals_medians_and_the_best_are_shown(tmp_path: Path) -> None:
    rows = filled_rows("digits-quick", ["seeds=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"])
    for row in rows:
        best = row["method"] == "xlf" and row["granularity"] == "sample"
        row["healed"] = (95.0 if best else 60.0) + row["seed"] / 10
    searches = finished_searches(write(tmp_path, rows))
    interval = searches_table(searches, choice=TableChoice(aggregate=True, statistic="interval", best=True))
    marked = [row for row in interval.rows if "healed" in row["best"]]
    assert {(row["method"], row["granularity"]) for row in marked} == {("xlf", "sample")}
    assert {row["share"] for row in marked} == {row["share"] for row in interval.rows}
    cell = shown(interval)[interval.rows.index(marked[0])]["healed %"]
    assert cell.startswith("95.5")
    assert "[" in cell
    assert f"**{cell}**".replace("[", r"\[").replace("]", r"\]") in render(interval, "markdown")
    assert rf"\textbf{{{cell}}}".replace("[", "{[}").replace("]", "{]}") in render(interval, "latex")
    assert f"<strong>{cell}</strong>" in render(interval, "html")
    assert f"{cell}^" in render(interval, "text")
    median = searches_table(searches, choice=TableChoice(aggregate=True, statistic="median"))
    found = {row["healed %"] for row in shown(median) if row["method"] == "PTN-XLF"}
    assert found == {"95.5", "60.5"}  # by sample and by batch
