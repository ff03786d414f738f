"""Compaction: few parts and the same rows, beside readers, broken parts and full disks."""

from __future__ import annotations

import errno
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from theriac.errors import BadInput
from theriac.search.store import compaction, results
from theriac.search.store.compaction import compact
from theriac.search.store.parts import read_part, write_part
from theriac.search.store.results import ResultsStore, list_parts
from theriac.search.store.schemas import SCHEMA_VERSION, SCHEMAS, VERSION_ENTRY
from theriac.tests.results_parts import fill, parts


def test_many_parts_become_one_with_the_same_rows(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    fill(store, 40)
    before = store.read("steps")
    assert compact(store) == 40
    (merged,) = parts(tmp_path)
    assert store.read("steps").equals(before)
    stored = pq.read_table(merged)
    assert len(stored) == 41
    assert stored.schema.equals(SCHEMAS["steps"])  # Parquet has a name of its own for the items of a list
    assert stored.schema.metadata == SCHEMAS["steps"].metadata
    assert stored.schema.metadata[VERSION_ENTRY] == str(SCHEMA_VERSION).encode()
    assert ResultsStore(tmp_path, create=False).read("steps").equals(before)
    assert (
        ds.dataset(tmp_path / "steps", format="parquet")
        .to_table()
        .sort_by("key")
        .equals(before.sort_by("key"))
    )


@pytest.mark.parametrize("table", list(SCHEMAS))
def test_every_table_can_be_merged(table: str, tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    lists = {"lfr": [0.1, 0.2]} if table == "searches" else {}
    for key in ("a", "b", "c"):
        store.append(table, [{"key": key, **lists}])
    before = store.read(table)
    assert compact(store, table, least=2) == 3
    assert store.read(table).equals(before)


def test_few_parts_are_left_alone(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    paths = fill(store, 31)
    assert compact(store) == 0
    assert compact(store, "searches", least=2) == 0
    assert parts(tmp_path) == paths
    store.append("steps", [{"key": "k"}])
    assert compact(store, "steps") == 32


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no table 'step'"):
        compact(ResultsStore(tmp_path), "step")
    with pytest.raises(ValueError, match="least = 1: one part cannot be merged"):
        compact(ResultsStore(tmp_path), least=1)


def test_merged_parts_are_merged_again_and_new_rows_win(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    for step in range(5):
        store.append("steps", [{"key": "k", "step": step}, {"key": str(step)}])
        store.append("steps", [{"key": "other", "step": step}])
        assert compact(store, "steps", least=2) > 0
    assert len(parts(tmp_path)) == 1
    rows = {row["key"]: row["step"] for row in store.read("steps").to_pylist()}
    assert (rows["k"], rows["other"], len(rows)) == (4, 4, 7)


def test_only_neighbours_up_to_the_target_size_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ResultsStore(tmp_path)
    paths = fill(store, 9)
    store.append("steps", [{"key": f"large{i}", "s": i / 7} for i in range(5000)])
    paths += fill(store, 2)
    before, size = store.read("steps"), paths[0].stat().st_size
    monkeypatch.setattr(compaction, "TARGET_BYTES", 4 * size + size // 2)
    monkeypatch.setattr(compaction, "LARGE_BYTES", 2 * size)
    assert (
        compact(store, "steps", least=2) == 4 + 4 + 2
    )  # the ninth stands alone between a group and the large
    assert len(parts(tmp_path)) == 5
    assert store.read("steps").equals(before)
    monkeypatch.undo()
    compact(store, "steps", least=2)
    (path,) = parts(tmp_path)
    assert path.name.count("_merged-") == 1
    assert store.read("steps").equals(before)


def keep_apart(path: Path) -> None:
    """Give the part a column of a later theriac: it is read, but not merged."""
    rows = pq.read_table(path)
    pq.write_table(rows.append_column("later", pa.array(range(len(rows)))), path)


@pytest.mark.parametrize("merged", [(0, 1), (1, 2)])
def test_ties_go_to_the_later_name_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merged: tuple[int, int]
) -> None:
    monkeypatch.setattr(results, "_next_moment", lambda: datetime(2030, 1, 1, tzinfo=UTC))
    store = ResultsStore(tmp_path)
    for number in range(3):
        path = store.append("steps", [{"key": "k", "step": number}])
        assert path is not None
        path = path.rename(path.with_name(f"part-{number}.parquet"))
        if number not in merged:
            keep_apart(path)
    assert compact(store, "steps", least=2) == 2
    assert len(parts(tmp_path)) == 2
    assert store.read("steps")["step"].to_pylist() == [2]


def test_what_cannot_be_merged_stays_and_is_still_named(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    paths = fill(store, 9)
    sound = paths[2].read_bytes()
    paths[2].write_bytes(sound[: len(sound) // 2])
    paths[5].write_bytes(b"")
    keep_apart(paths[8])
    before = store.read("steps")
    assert [part.path for part in store.skipped] == [paths[2], paths[5]]
    assert compact(store, "steps", least=2) == 2 + 2 + 2
    assert store.read("steps").equals(before)
    assert [part.path for part in store.skipped] == [paths[2], paths[5]]
    assert pq.read_table(paths[8])["later"].to_pylist() == [0, 1]


def test_another_schema_version_is_left_for_its_own_theriac(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    paths = fill(store, 3)
    rows = pq.read_table(paths[2])
    pq.write_table(rows.replace_schema_metadata({**rows.schema.metadata, VERSION_ENTRY: b"7"}), paths[2])
    assert compact(store, "steps", least=2) == 2
    assert paths[2] in parts(tmp_path)


def test_a_second_compactor_does_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = ResultsStore(tmp_path)
    paths = fill(store)
    (tmp_path / "locks").mkdir()
    with FileLock(tmp_path / "locks" / "compact-steps"), caplog.at_level(logging.DEBUG):
        assert compact(store, "steps", least=2) == 0
    assert parts(tmp_path) == paths
    assert "another process compacts steps" in caplog.text
    assert compact(store, "steps", least=2) == 5


@pytest.mark.parametrize("fails", ["_write_checked", "_write_text"])
def test_a_full_disk_is_a_warning_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    def full(*arguments: object) -> None:
        next(one for one in arguments if isinstance(one, Path)).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    store = ResultsStore(tmp_path)
    paths = fill(store)
    before = store.read("steps")
    monkeypatch.setattr(compaction, fails, full)
    assert compact(store, "steps", least=2) == 0
    assert "nothing is lost: [Errno 28] No space left on device" in caplog.text
    assert set(paths) <= set(parts(tmp_path))
    assert not list(tmp_path.rglob("*.tmp"))
    assert store.read("steps").equals(before)
    monkeypatch.undo()
    assert compact(store, "steps", least=2) >= 5
    assert store.read("steps").equals(before)
    assert len(parts(tmp_path)) == 1


def test_rows_that_do_not_come_back_keep_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = ResultsStore(tmp_path)
    paths = fill(store)
    monkeypatch.setattr(compaction, "write_part", lambda rows, path: write_part(rows[1:], path))
    assert compact(store, "steps", least=2) == 0
    assert "has lost rows" in caplog.text
    assert parts(tmp_path) == paths


def test_a_part_that_vanishes_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResultsStore(tmp_path)
    paths = fill(store)
    listed = list_parts(tmp_path / "steps")
    monkeypatch.setattr(compaction, "list_parts", lambda folder: listed)
    paths[2].unlink()
    before = store.read("steps")
    assert compact(store, "steps", least=2) == 4
    assert store.read("steps").equals(before)


def test_a_reader_whose_parts_are_merged_lists_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ResultsStore(tmp_path)
    fill(store)
    before, original, reads = store.read("steps"), read_part, [0]

    def merged_meanwhile(path: Path, table: str, schema: pa.Schema) -> pa.Table:
        reads[0] += 1
        if reads[0] == 3:
            compact(ResultsStore(tmp_path), "steps", least=2)
        return original(path, table, schema)

    monkeypatch.setattr(results, "read_part", merged_meanwhile)
    assert store.read("steps").equals(before)
    assert store.skipped == ()
    assert len(parts(tmp_path)) == 1


def test_a_listing_during_a_compaction_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, listings = results._visible, [0]

    def torn(folder: Path) -> list[Path]:
        """First neither the merged part nor those it replaced: what a slow look at a folder may give."""
        listings[0] += 1
        if listings[0] > 1:
            return original(folder)
        compact(ResultsStore(tmp_path), "steps", least=2)
        return []

    store = ResultsStore(tmp_path)
    fill(store)
    before = store.read("steps")
    monkeypatch.setattr(compaction, "list_parts", original)
    monkeypatch.setattr(results, "_visible", torn)
    assert store.read("steps").equals(before)
    assert listings[0] > 1


def test_a_stale_file_handle_is_looked_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original, reads = Path.read_text, [0]

    def stale(self: Path) -> str:
        reads[0] += 1
        if reads[0] == 1:
            raise OSError(errno.ESTALE, "Stale file handle")
        return original(self)

    store = ResultsStore(tmp_path)
    fill(store)
    before = store.read("steps")
    monkeypatch.setattr(Path, "read_text", stale)
    assert store.read("steps").equals(before)
    assert reads[0] > 1


def test_files_that_vanish_for_ever_are_an_error_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "_visible", lambda folder: [folder / "part-gone.parquet"])
    monkeypatch.setattr(results, "PAUSES", (0.0, 0.0))
    with pytest.raises(BadInput, match="vanish while they are read; do not delete results"):
        ResultsStore(tmp_path).read("steps")


def test_temporary_files_of_the_dead_are_removed_after_a_day(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    fill(store)
    old, new = tmp_path / "steps" / ".a.tmp", tmp_path / "steps" / ".b.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 90_000,) * 2)
    compact(store, "steps", least=2)
    assert (old.exists(), new.exists()) == (False, True)
