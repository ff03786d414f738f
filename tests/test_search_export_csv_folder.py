"""Results as CSV: what pandas and a spreadsheet read is what is in the results, and no formula."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from theriac.errors import BadInput
from theriac.search.export import exported
from theriac.search.store import SCHEMAS, ResultsStore
from theriac.tests.exported_results import pairs, ptn, stored, tuned

FILES = {"runs.csv", "searches.csv", "steps.csv"}


def folder_of(tmp_path: Path, *searches: Any) -> Path:
    results = stored(tmp_path / "results", *(searches or (tuned(), pairs("grid"), ptn())))
    said = exported([results], "csv", tmp_path / "out")
    assert said.startswith(f"{tmp_path / 'out'}: runs.csv (1 row), searches.csv (")
    return tmp_path / "out"


def test_all_columns_of_the_newest_rows(tmp_path: Path) -> None:
    row, steps = tuned()
    stored(tmp_path / "results", ({**row, "healed": 1.0}, steps))
    out = folder_of(tmp_path, (row, steps), pairs("grid"))
    assert {one.name for one in out.iterdir()} == FILES
    store = ResultsStore(tmp_path / "results")
    for table in SCHEMAS:
        found = pd.read_csv(out / f"{table}.csv")
        expected = store.read(table).to_pandas()
        assert list(found.columns) == SCHEMAS[table].names
        assert set(found["key"]) == set(expected["key"])
        assert len(found) == len(expected)
    found = pd.read_csv(out / "searches.csv").set_index("key")
    assert found.loc[row["key"], "healed"] == 96.0
    assert found.loc[row["key"], "settings"] == row["settings"]
    assert found.loc[row["key"], "score"] == row["score"], "to the last digit"
    assert pd.isna(found.loc[row["key"], "alpha"])


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    row, steps = ptn()
    odd = {"status": "=cmd|' /C calc'!A0", "error_message": 'a\r\nb, "c"', "model": "-1e3", "attack": "@x"}
    out = folder_of(tmp_path, ({**row, **odd, "key": "+k", "lfr": [0.25, None]}, steps))
    with (out / "searches.csv").open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert found["status"] == "'=cmd|' /C calc'!A0"
    assert found["error_message"] == 'a\nb, "c"'
    assert (found["model"], found["attack"], found["key"]) == ("-1e3", "'@x", "'+k")
    assert found["lfr"] == "[0.25, null]"


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    out = folder_of(tmp_path)
    (out / "mine.txt").write_text("mine")
    (out / "runs.csv").write_text("old")
    with pytest.raises(BadInput, match=r"out/runs.csv is there already; .*--force"):
        exported([tmp_path / "results"], "csv", out)
    assert (out / "runs.csv").read_text() == "old"
    exported([tmp_path / "results"], "csv", out, force=True)
    assert (out / "runs.csv").read_text().startswith('"key"')
    assert {one.name for one in out.iterdir()} == {*FILES, "mine.txt"}


def test_nothing_is_left_where_there_is_nothing_to_export(tmp_path: Path) -> None:
    ResultsStore(tmp_path / "results").append("runs", [{"key": "r"}])
    with pytest.raises(BadInput, match="no finished searches yet"):
        exported([tmp_path / "results"], "csv", tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["results"]


def test_several_folders(tmp_path: Path) -> None:
    first, second = (stored(tmp_path / name, pairs(name), ptn()) for name in ("grid", "tpe"))
    exported([first, second], "csv", tmp_path / "out")
    assert len(pd.read_csv(tmp_path / "out" / "searches.csv")) == 3
