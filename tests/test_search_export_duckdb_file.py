"""Results as a DuckDB file: the tables, and means that are those of `theriac table`."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from theriac.errors import BadInput
from theriac.search.export import exported
from theriac.search.report import finished_searches, render, searches_table
from theriac.search.store import SCHEMAS, ResultsStore
from theriac.tests.exported_results import pairs, ptn, stored, tuned
from theriac.tests.filled_results import filled_rows, write

PARTS = ("setup", "share", "method", "granularity", "search", "settings")


def made(results: Path, out: Path) -> duckdb.DuckDBPyConnection:
    exported([results], "duckdb", out)
    assert [one.name for one in out.parent.iterdir() if one.name.startswith(out.name)] == [out.name]
    return duckdb.connect(str(out), read_only=True)


def test_the_tables_are_the_newest_rows(tmp_path: Path) -> None:
    row, steps = tuned()
    results = stored(tmp_path / "results", ({**row, "healed": 1.0}, steps), pairs("grid"))
    stored(results, (row, steps))
    with made(results, tmp_path / "r.duckdb") as session:
        for table in SCHEMAS:
            found = session.execute(f"SELECT * FROM {table} ORDER BY key").fetch_df()
            expected = ResultsStore(results).read(table).sort_by("key").to_pandas()
            assert list(found.columns) == SCHEMAS[table].names
            assert list(found["key"]) == list(expected["key"])
        assert session.execute("SELECT healed FROM searches WHERE method = 'ga'").fetchall() == [(96.0,)]


def test_a_database_may_be_moved(tmp_path: Path) -> None:
    results = stored(tmp_path / "results", tuned(), ptn())
    made(results, tmp_path / "r.duckdb").close()
    (tmp_path / "r.duckdb").rename(tmp_path / "other.db")
    with duckdb.connect(str(tmp_path / "other.db")) as session:
        assert session.execute("SELECT count(*) FROM lines").fetchall() == [(2,)]
        found = session.execute("SELECT method, step, score FROM trials WHERE search_name = 'tpe'").fetchall()
        assert len(found) == 4
        comments = dict(
            session.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall()
        )
        assert "over seeds" in comments["lines"]


def test_lines_are_those_of_the_table(tmp_path: Path) -> None:
    rows = filled_rows("digits", ["seeds=[0,1,2]"])
    rows[5] |= {"status": "failed", "healed": None}
    rows[40] |= {"status": "gate_failed", "healed": None, "clean_accuracy": None}
    rows[80] |= {"healed": None}
    results = write(tmp_path / "results", rows)
    with made(results, tmp_path / "r.duckdb") as session:
        ours = session.execute("SELECT * FROM lines").fetch_df()
    table = searches_table(finished_searches(results), aggregate=True)
    theirs = pd.read_csv(StringIO(render(table, "csv")), dtype={"share": str})
    assert len(ours) == len(theirs) > 30
    both = ours.merge(theirs, on=list(PARTS), suffixes=("", "_theirs"))
    assert len(both) == len(ours)
    for name in (
        "n",
        "rows",
        "healed_mean",
        "healed_sd",
        "seconds_mean",
        "clean_accuracy_mean",
        "alpha_mean",
    ):
        expected = pd.to_numeric(both[f"{name}_theirs"])
        pd.testing.assert_series_equal(both[name], expected, check_names=False, check_dtype=False)


def test_without_duckdb_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(BadInput, match=r"needs the package duckdb .*pip install 'theriac\[duckdb\]'"):
        exported([tmp_path], "duckdb", tmp_path / "r.duckdb")


def test_nothing_is_left_where_there_is_nothing_to_export(tmp_path: Path) -> None:
    ResultsStore(tmp_path / "results")
    with pytest.raises(BadInput, match="no finished searches yet"):
        exported([tmp_path / "results"], "duckdb", tmp_path / "r.duckdb")
    assert [one.name for one in tmp_path.iterdir()] == ["results"]
