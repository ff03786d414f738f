"""Folders of earlier versions: read as they are, and given one schema by the sweep that goes on in them."""

from __future__ import annotations

import time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from theriac.search.store import ResultsStore, upgrade
from theriac.search.store.compaction import compaction_lock
from theriac.search.store.schema_upgrade import OLD_MARK
from theriac.search.store.schemas import SCHEMAS
from theriac.tests.older_results import made_older, oldest


def unchanged(rows: pa.Table) -> pa.Table:
    return rows


def parts(directory: Path, table: str = "searches") -> list[Path]:
    return sorted((directory / table).iterdir())


def older(directory: Path, count: int = 3) -> ResultsStore:
    """Return results whose first parts are of version 1, and whose last is new."""
    store = ResultsStore(directory)
    for number in range(count):
        path = store.append("searches", [{"key": f"old{number}", "alpha": number / 3}])
        assert path is not None
        oldest(path, "searches")
    store.append("searches", [{"key": "new", "setup": "abc", "width": 0.5}])
    return ResultsStore(directory)


def test_parts_of_version_1_are_read_beside_new_ones(tmp_path: Path) -> None:
    rows = older(tmp_path).read("searches")
    assert rows["key"].to_pylist() == ["old0", "old1", "old2", "new"]
    assert rows["setup"].to_pylist() == [None, None, None, "abc"]
    assert rows["schema_version"].to_pylist() == [1, 1, 1, 2]


def test_an_upgrade_gives_all_parts_one_schema_and_keeps_every_row(tmp_path: Path) -> None:
    store = older(tmp_path)
    before = store.read("searches")
    assert upgrade(store, unchanged) == 3
    assert store.read("searches").equals(before)
    assert all(pq.read_schema(path).equals(SCHEMAS["searches"]) for path in parts(tmp_path))
    assert upgrade(store, unchanged) == 0


def test_what_others_dropped_they_see_after_the_upgrade(tmp_path: Path) -> None:
    store = older(tmp_path)
    assert "setup" not in ds.dataset(tmp_path / "searches", format="parquet").schema.names
    upgrade(store, unchanged)
    assert ds.dataset(tmp_path / "searches", format="parquet").to_table()["setup"].to_pylist()[-1] == "abc"
    assert list(pd.read_parquet(tmp_path / "searches")["width"])[-1] == 0.5


def test_the_description_is_asked_for_searches_alone(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    for table in ("steps", "searches"):
        path = store.append(table, [{"key": "a"}])
        assert path is not None
        made_older(path)
    seen: list[list[str]] = []

    def describe(rows: pa.Table) -> pa.Table:
        seen.append(rows.schema.names)
        return rows

    assert upgrade(store, describe) == 2
    assert seen == [SCHEMAS["searches"].names]


def test_a_damaged_part_and_one_of_the_future_stay_as_they_are(tmp_path: Path) -> None:
    store = older(tmp_path)
    first, second = parts(tmp_path)[:2]
    first.write_bytes(first.read_bytes()[:-20])
    rows = pq.read_table(second).append_column("later", pa.array([1.0]))
    pq.write_table(rows, second)
    kept = first.read_bytes(), second.read_bytes()
    assert upgrade(store, unchanged) == 1
    assert (first.read_bytes(), second.read_bytes()) == kept


def test_the_old_mark_of_compactions_goes(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    store.append("searches", [{"key": "a"}])
    (tmp_path / "searches" / OLD_MARK).write_text("token")
    upgrade(store, unchanged)
    assert [path.suffix for path in parts(tmp_path)] == [".parquet"]


def test_another_process_that_merges_is_left_alone(tmp_path: Path) -> None:
    store = older(tmp_path)
    with compaction_lock(tmp_path, "searches"):
        assert upgrade(store, unchanged) == 0
    assert store.read("searches").num_rows == 4


def test_a_reader_sees_every_row_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = older(tmp_path, 6)
    original, counts = Path.unlink, []

    def slowly(self: Path, missing_ok: bool = False) -> None:
        counts.append(ResultsStore(tmp_path, create=False).read("searches").num_rows)
        time.sleep(0.001)
        original(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", slowly)
    assert upgrade(store, unchanged) == 6
    assert set(counts) == {7}
