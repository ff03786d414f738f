"""Others read a folder as it stands: DuckDB, polars, pandas and Arrow, as docs/sweeps.md says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest

from theriac.search.store import ResultsStore, compact

NEWEST = """
SELECT * FROM read_parquet('{folder}/*.parquet')
QUALIFY row_number() OVER (PARTITION BY key ORDER BY written_at DESC) = 1
"""


def by_duckdb(folder: Path) -> dict[str, float]:
    with duckdb.connect() as session:
        return dict(session.execute(f"SELECT key, alpha FROM ({NEWEST.format(folder=folder)})").fetchall())


def by_pandas(folder: Path) -> dict[str, float]:
    rows = pd.read_parquet(folder).sort_values("written_at").drop_duplicates("key", keep="last")
    return dict(zip(rows["key"], rows["alpha"], strict=True))


def by_polars(folder: Path) -> dict[str, float]:
    rows = pl.read_parquet(folder).sort("written_at").unique("key", keep="last")
    return dict(zip(rows["key"], rows["alpha"], strict=True))


def by_arrow(folder: Path) -> dict[str, float]:
    rows = ds.dataset(folder, format="parquet").to_table().sort_by("written_at")
    return dict(zip(rows["key"].to_pylist(), rows["alpha"].to_pylist(), strict=True))


Reader = Callable[[Path], dict[str, float]]


@pytest.mark.parametrize("read", [by_duckdb, by_pandas, by_polars, by_arrow])
@pytest.mark.parametrize("merged", [False, True])
def test_others_read_the_newest_row_of_every_key(tmp_path: Path, read: Reader, merged: bool) -> None:
    store = ResultsStore(tmp_path)
    for number in range(4):
        store.append("searches", [{"key": f"k{number}", "alpha": 0.5}, {"key": "again", "alpha": number}])
    if merged:
        assert compact(store, "searches", least=2) == 4
    (tmp_path / ".part-killed.parquet.1.tmp").write_bytes(b"half")
    expected = {**{f"k{number}": 0.5 for number in range(4)}, "again": 3.0}
    assert read(tmp_path / "searches") == expected
    rows = store.read("searches", columns=["alpha"])
    assert dict(zip(rows["key"].to_pylist(), rows["alpha"].to_pylist(), strict=True)) == expected
