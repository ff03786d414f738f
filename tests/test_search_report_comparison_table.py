"""Published tables beside ours: value, printed value, difference, cells present, reasons of missing ones."""

from __future__ import annotations

import csv
import io
import statistics
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from theriac.errors import BadInput
from theriac.search.report import finished_searches, published_comparison, render
from theriac.search.report.published import published_tables
from theriac.search.report.result_table import ResultTable
from theriac.search.sweep import load_sweep
from theriac.tests.filled_results import filled_rows, write


def long(table: ResultTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render(table, "csv"))))


def cell(table: ResultTable, line: str, group: str, column: str) -> dict[str, str]:
    (found,) = [
        row
        for row in long(table)
        if (row["line"], row["column_group"], row["column"]) == (line, group, column)
    ]
    return found


@pytest.fixture
def whole(tmp_path: Path) -> pa.Table:
    rows = filled_rows("potion-table1") + filled_rows("potion-table1-cifar100")
    return finished_searches(write(tmp_path, rows))


GOEL, ONE = "Goel et al. (2024)", "One-shot healing"


def test_a_whole_sweep_fills_every_cell_with_its_mean(whole: pa.Table) -> None:
    table = published_comparison(whole, "potion-table1")
    found = cell(table, "PTN-XLF", GOEL, "Poison healed")
    values = [
        row["healed"] for row in whole.to_pylist() if row["method"] == "xlf" and row["share"] != "one_shot"
    ]
    assert float(found["ours"]) == pytest.approx(statistics.fmean(values))
    assert float(found["ours_sd"]) == pytest.approx(statistics.stdev(values))
    assert (float(found["paper"]), float(found["paper_sd"])) == (93.72, 1.99)
    assert float(found["difference"]) == pytest.approx(statistics.fmean(values) - 93.72)
    assert (found["present"], found["planned"], found["rows"], found["note"]) == ("60", "60", "60", "")
    assert {row["note"] for row in long(table)} == {""}
    assert any("paper: over all scenarios of the column" in note for note in table.footnotes)
    assert all(row["ours"] for row in long(table))


def test_more_seeds_count_as_the_same_cells(tmp_path: Path) -> None:
    rows = filled_rows("potion-table1", ["seeds=[3, 4]"])
    table = published_comparison(finished_searches(write(tmp_path, rows)), "potion-table1")
    found = cell(table, "PTN-LF", ONE, "Model damage")
    assert (found["rows"], found["present"], found["planned"]) == ("6", "3", "6")
    assert found["note"] == "3 of 6 cells not run"


def test_what_failed_and_what_was_not_run_is_said(tmp_path: Path) -> None:
    rows = filled_rows("potion-table1", where=lambda task: task.cell.share != 0.5)
    for row in rows:
        if row["method"] == "xlf" and row["share"] == "0.1":
            row |= {"status": "failed", "error_message": "no room", "healed": None, "damage": None}
    table = published_comparison(finished_searches(write(tmp_path, rows)), "potion-table1")
    found = cell(table, "PTN-XLF", GOEL, "Poison healed")
    assert (found["present"], found["planned"]) == (str(30 - 3 - 3), "60")
    assert found["note"] == "33 of 60 cells not run; 3 failed (no room)"
    assert any("3 failed (no room)" in note for note in table.footnotes)


def test_rows_of_another_protocol_do_not_count_unless_one_asks(tmp_path: Path) -> None:
    rows = filled_rows(
        "cifar10-small", ["granularities=[batch]"], where=lambda task: task.cell.method != "none"
    )
    searches = finished_searches(write(tmp_path, rows))
    with pytest.raises(BadInput, match=r"exactly as the presets say.*--loose"):
        published_comparison(searches, "potion-table1")
    table = published_comparison(searches, "potion-table1", loose=True)
    found = cell(table, "PTN-XLF", GOEL, "Poison healed")
    assert (found["present"], found["planned"]) == ("4", "60")
    assert found["ours"]
    notes = "\n".join(table.footnotes)
    assert "width 0.5 where the presets have 1.0" in notes
    assert "recipe.iterations 2000 where the presets have" in notes


def test_unlike_protocols_are_not_averaged_even_loosely(tmp_path: Path) -> None:
    rows = filled_rows("cifar10-small", ["granularities=[batch]"]) + filled_rows("potion-table1")
    table = published_comparison(finished_searches(write(tmp_path, rows)), "potion-table1", loose=True)
    found = cell(table, "PTN-XLF", GOEL, "Poison healed")
    assert found["ours"] == ""
    assert found["note"].startswith("not averaged: the rows differ in more than seed, share")
    strict = published_comparison(finished_searches(tmp_path), "potion-table1")
    assert cell(strict, "PTN-XLF", GOEL, "Poison healed")["present"] == "30"
    assert any("rows of these results belong to no cell" in note for note in strict.footnotes)


def test_a_cell_is_explained_by_its_rows(whole: pa.Table) -> None:
    table = published_comparison(whole, "potion-table1", explain="1:3")
    shares = {(row["method"], row["share"]) for row in table.rows}
    assert shares == {("xlf", "one_shot")}
    assert {row["key"] for row in table.rows} <= set(whole["key"].to_pylist())
    assert table.columns[0].title == "key"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"name": "potion-table99"}, "unknown table 'potion-table99'"),
        ({"name": "potion-table1", "explain": "9:1"}, "lines 1 to 6 and printed columns 1 to 4"),
        ({"name": "potion-table1", "explain": "1:healed"}, "printed columns 1 to 4"),
        ({"name": "potion-table1", "explain": "healed"}, "a line and a printed column"),
        ({"name": "potion-table1", "where": "share = 7"}, "exactly as the presets say"),
        ({"name": "potion-fig5"}, "cannot be computed here"),
        ({"name": "potion-fig10"}, "is a figure without printed numbers"),
    ],
)
def test_what_there_is_not_is_a_line(whole: pa.Table, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        published_comparison(whole, **arguments)


@pytest.mark.parametrize("format", ["text", "markdown", "latex", "html", "csv"])
def test_every_format_holds_ours_and_the_papers_number(whole: pa.Table, format: str) -> None:
    text = render(published_comparison(whole, "potion-table1"), format)
    ours = float(cell(published_comparison(whole, "potion-table1"), "EU", GOEL, "Poison healed")["ours"])
    assert all(
        number in text for number in ("93.72", "68.01", f"{ours:.2f}" if format != "csv" else str(ours))
    )


FILLED = [
    name
    for name, table in published_tables().items()
    if table.presets and (table.figure is None or name == "potion-fig11")
]


@pytest.mark.parametrize("name", FILLED)
def test_every_table_is_filled_by_its_own_presets(tmp_path: Path, name: str) -> None:
    published = published_tables()[name]
    rows = {row["key"]: row for preset in published.presets for row in filled_rows(preset)}
    for row in rows.values():
        row |= {"lfr": [0.5] * 100, "asr_by_trigger": [0.5] * 7}
    table = published_comparison(finished_searches(write(tmp_path, list(rows.values()))), name)
    assert len(long(table)) == len(published.lines) * len(published.columns)
    filled = [row for row in long(table) if row["planned"] != "0"]
    assert filled
    assert [row for row in filled if row["note"] or row["present"] != row["planned"] or not row["ours"]] == []


def test_presets_are_those_that_sweeps_have() -> None:
    for published in published_tables().values():
        for preset in published.presets:
            assert load_sweep(preset).tasks()
