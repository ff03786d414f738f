"""Rows a few at a time are the rows that `read` reads, whatever happens to the files meanwhile."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import theriac.search.store.streaming as module
from theriac.errors import BadInput
from theriac.search.store import PartsChanged, ResultsStore, compact, newest_batches, repeated


def filled(folder: Path, parts: int = 4, rows: int = 10) -> ResultsStore:
    store = ResultsStore(folder)
    for number in range(parts):
        store.append("searches", [{"key": f"k{k}", "alpha": number + k / 100} for k in range(number, rows)])
    return store


def test_the_newest_row_of_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 3)
    store = filled(tmp_path)
    found = list(newest_batches([store], "searches"))
    assert [len(rows) for rows in found] == [3, 3, 3, 1]
    assert pa.concat_tables(found).sort_by("key").equals(store.read("searches").sort_by("key"))


def test_no_rows_are_no_batches(tmp_path: Path) -> None:
    assert list(newest_batches([ResultsStore(tmp_path)], "steps")) == []


def test_of_several_folders_the_newest_counts(tmp_path: Path) -> None:
    old, new = filled(tmp_path / "a"), filled(tmp_path / "b", parts=1)
    for stores in ([old, new], [new, old]):
        (rows,) = newest_batches(stores, "searches")
        assert rows.sort_by("key").equals(new.read("searches").sort_by("key"))


def test_a_broken_part_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = filled(tmp_path, parts=1)
    (tmp_path / "searches" / "part-broken.parquet").write_bytes(b"PAR1")
    (rows,) = newest_batches([store], "searches")
    assert len(rows) == 10
    assert "part-broken.parquet" in caplog.text


def test_a_compaction_in_between_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_ROWS", 1)
    store, tries = filled(tmp_path), []

    def read() -> int:
        tries.append(1)
        count = 0
        for rows in newest_batches([store], "searches"):
            count += len(rows)
            compact(store, "searches", least=2)
        return count

    assert repeated(read) == 10
    assert len(tries) == 2


def test_files_that_vanish_all_the_time_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0))

    def read() -> None:
        raise PartsChanged("gone")

    with pytest.raises(BadInput, match="vanish while they are read"):
        repeated(read)
