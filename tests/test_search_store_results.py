"""The results store: what is written can be read, whatever is killed, mixed in or repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from theriac.errors import BadInput
from theriac.search.store import results
from theriac.search.store.atomic import write_atomically
from theriac.search.store.results import ResultsStore
from theriac.search.store.schemas import ADDED, SCHEMA_VERSION, SCHEMAS, VERSION_ENTRY

WRITER = """
import sys
from theriac.search.store.results import ResultsStore
store = ResultsStore(sys.argv[1])
name, count = sys.argv[2], int(sys.argv[3])
for block in range(count):
    rows = [{"key": f"{name}-{block}-{i}", "search": name, "step": i, "s": i / 7} for i in range(200)]
    print(store.append("steps", rows), flush=True)
"""

KILLED_AT = """
import os, signal, sys
from theriac.search.store import results
store = results.ResultsStore(sys.argv[1])
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(results.os, sys.argv[2], die)
store.append("steps", [{"key": "lost"}])
"""


def start(directory: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(directory), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def search_row(**columns: object) -> dict[str, object]:
    return {"key": "a", "dataset": "digits", "alpha": 2.5, "steps": 7, "lfr": [0.0, 0.5], **columns}


def test_rows_come_back_typed_and_stamped(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    before = datetime.now(UTC)
    path = store.append("searches", [search_row(uses_oracle=False)])
    table = store.read("searches")
    assert path is not None
    assert path.parent == tmp_path / "searches"
    assert table.schema.equals(SCHEMAS["searches"], check_metadata=True)
    (row,) = table.to_pylist()
    assert {name: row[name] for name in ("key", "dataset", "alpha", "steps", "lfr", "uses_oracle")} == {
        **search_row(),
        "uses_oracle": False,
    }
    assert row["healed"] is None
    assert row["schema_version"] == SCHEMA_VERSION
    assert before <= row["written_at"] <= datetime.now(UTC)


@pytest.mark.parametrize("table", list(SCHEMAS))
def test_an_empty_table_has_all_columns_and_types(tmp_path: Path, table: str) -> None:
    store = ResultsStore(tmp_path)
    assert store.append(table, []) is None
    assert store.read(table).num_rows == 0
    assert store.read(table).schema.equals(SCHEMAS[table])


def test_the_newest_row_of_a_key_counts(tmp_path: Path) -> None:
    for alpha in (1.0, 2.0, 3.0):
        ResultsStore(tmp_path).append("searches", [search_row(alpha=alpha), search_row(key="b", alpha=alpha)])
    store = ResultsStore(tmp_path, create=False)
    assert store.read("searches").select(["key", "alpha"]).to_pylist() == [
        {"key": "a", "alpha": 3.0},
        {"key": "b", "alpha": 3.0},
    ]
    assert len(list((tmp_path / "searches").glob("*.parquet"))) == 3


def test_within_one_append_the_last_row_of_a_key_counts(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    store.append("steps", [{"key": "a", "step": 1}, {"key": "a", "step": 2}])
    assert store.read("steps")["step"].to_pylist() == [2]


def test_the_moment_of_writing_counts_before_the_file_name(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    old = store.append("steps", [{"key": "a", "step": 1}])
    store.append("steps", [{"key": "a", "step": 2}])
    assert old is not None
    old.rename(old.with_name("part-99991231T000000000000Z-0.parquet"))
    assert store.read("steps")["step"].to_pylist() == [2]


def test_a_tie_goes_to_the_later_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    monkeypatch.setattr(results, "_next_moment", lambda: moment)
    store = ResultsStore(tmp_path)
    for name, step in (("b", 1), ("a", 2)):
        path = store.append("steps", [{"key": "k", "step": step}])
        assert path is not None
        path.rename(path.with_name(f"part-{name}.parquet"))
    assert store.read("steps")["step"].to_pylist() == [1]


def test_a_clock_set_back_does_not_bring_back_old_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = [datetime(2031, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return times.pop(0)

    monkeypatch.setattr(results, "datetime", Clock)
    monkeypatch.setattr(results, "_latest", datetime(2029, 1, 1, tzinfo=UTC))
    store = ResultsStore(tmp_path)
    for step in (1, 2):
        store.append("steps", [{"key": "k", "step": step}])
    assert store.read("steps")["step"].to_pylist() == [2]


def test_file_names_sort_by_time(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    paths = [store.append("steps", [{"key": str(i)}]) for i in range(20)]
    assert paths == sorted((tmp_path / "steps").glob("part-*.parquet"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"key": "a", "colour": 1}, "row 0: unknown column 'colour'"),
        ({"key": "a", "schema_version": 1}, "unknown column 'schema_version'"),
        ({"dataset": "digits"}, "row 0: 'key' is missing"),
        ({"key": None}, "'key' is missing"),
        ({"key": ""}, "'key' is missing"),
        ({"key": "a", "alpha": "big"}, r"column 'alpha' \(double\)"),
        ({"key": "a", "steps": 1.5}, r"column 'steps' \(int64\)"),
        ({"key": "a", "steps": 2**70}, "column 'steps'"),
        ({"key": "a", "lfr": 0.5}, "column 'lfr'"),
    ],
)
def test_a_wrong_row_is_named_and_nothing_is_written(
    tmp_path: Path, row: dict[str, object], message: str
) -> None:
    store = ResultsStore(tmp_path)
    with pytest.raises(ValueError, match=message):
        store.append("searches", [row])
    assert not list(tmp_path.rglob("*.*"))


def test_a_moment_without_time_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'started_at' has no time zone"):
        ResultsStore(tmp_path).append("runs", [{"key": "a", "started_at": datetime(2030, 1, 1)}])


def test_an_unknown_table_is_named(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    for use in (lambda: store.read("step"), lambda: store.append("step", [{"key": "a"}])):
        with pytest.raises(ValueError, match="no table 'step'; the tables are runs, searches, steps"):
            use()


def test_broken_and_foreign_files_are_named_and_skipped(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    store.append("steps", [{"key": "good"}])
    cut = store.append("steps", [{"key": "cut"}])
    assert cut is not None
    cut.write_bytes(cut.read_bytes()[:-20])
    (tmp_path / "steps" / "empty.parquet").touch()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "steps" / "foreign.parquet")
    run = store.append("runs", [{"key": "r"}])
    assert run is not None
    run.rename(tmp_path / "steps" / "part-of-runs.parquet")
    (tmp_path / "steps" / "dangling.parquet").symlink_to(tmp_path / "gone")

    again = ResultsStore(tmp_path, create=False)
    assert list(again.skipped) == []
    assert again.read("steps")["key"].to_pylist() == ["good"]
    reasons = {part.path.name: part.reason for part in again.skipped}
    assert set(reasons) == {
        cut.name,
        "empty.parquet",
        "foreign.parquet",
        "part-of-runs.parquet",
        "dangling.parquet",
    }
    assert "truncated or not Parquet" in reasons[cut.name]
    assert "not written by theriac" in reasons["foreign.parquet"]
    again.read("runs")
    assert len(again.skipped) == 5


def test_a_part_with_other_columns_is_skipped_and_one_in_other_order_is_read(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    paths = [store.append("steps", [{"key": key, "s": 0.5}]) for key in ("order", "fewer", "types")]
    changes = (
        lambda table: table.select(table.schema.names[::-1]),
        lambda table: table.drop_columns(["s"]),
        lambda table: table.set_column(3, "s", pa.array(["text"])),
    )
    for path, change in zip(paths, changes, strict=True):
        assert path is not None
        pq.write_table(change(pq.read_table(path)), path)
    assert store.read("steps").select(["key", "s"]).to_pylist() == [{"key": "order", "s": 0.5}]
    assert [part.path for part in store.skipped] == paths[1:]
    assert all("other columns than 'steps' has" in part.reason for part in store.skipped)


def test_parts_from_before_a_column_was_added_are_read_with_null_there(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    path = store.append("steps", [{"key": "old", "alpha": 2.0, "score": 1.0}])
    assert path is not None
    added = list(ADDED["steps"])
    assert "score" in added
    pq.write_table(pq.read_table(path).drop_columns(added), path)
    store.append("steps", [{"key": "new", "alpha": 3.0, "score": 0.5}])
    rows = store.read("steps")
    assert rows.schema.names == SCHEMAS["steps"].names
    assert rows.select(["key", "alpha", "score"]).to_pylist() == [
        {"key": "old", "alpha": 2.0, "score": None},
        {"key": "new", "alpha": 3.0, "score": 0.5},
    ]
    assert store.skipped == ()


def test_every_flipped_byte_is_either_harmless_or_skipped(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    path = store.append("steps", [{"key": f"k{i}", "s": i / 3} for i in range(50)])
    assert path is not None
    sound, expected = path.read_bytes(), store.read("steps").to_pylist()
    for position in range(4, len(sound) // 2, 37):
        path.write_bytes(sound[:position] + bytes([sound[position] ^ 0xFF]) + sound[position + 1 :])
        assert store.read("steps").to_pylist() == expected or len(store.skipped) == 1


def test_another_schema_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = ResultsStore(tmp_path).append("searches", [search_row()])
    assert path is not None
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, VERSION_ENTRY: b"7"}), path)
    with pytest.raises(BadInput, match=r"schema version 7, but .* versions 1 and 2; name another directory"):
        ResultsStore(tmp_path)
    with pytest.raises(BadInput, match="schema version 7"):
        ResultsStore(tmp_path, create=False)


def test_a_part_of_another_version_among_good_ones_is_refused_on_read(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    path = store.append("searches", [search_row()])
    store.append("searches", [search_row()])
    assert path is not None
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, VERSION_ENTRY: b"7"}), path)
    with pytest.raises(BadInput, match="schema version 7"):
        store.read("searches")


def test_a_missing_directory_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="absent does not exist; check the name"):
        ResultsStore(tmp_path / "absent", create=False)
    assert not (tmp_path / "absent").exists()
    ResultsStore(tmp_path / "absent" / "deep")
    assert (tmp_path / "absent" / "deep").is_dir()


@pytest.mark.parametrize("create", [True, False])
def test_a_file_is_no_directory(tmp_path: Path, create: bool) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"file.* is a file"):
        ResultsStore(tmp_path / "file", create=create)


def test_below_a_file_there_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="a folder above it is a file"):
        ResultsStore(tmp_path / "file" / "below")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match=r"cannot be written \(Permission denied\); change its permissions"):
        ResultsStore(tmp_path)
    assert ResultsStore(tmp_path, create=False).read("runs").num_rows == 0


def test_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(data: pa.Table, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    store = ResultsStore(tmp_path)
    monkeypatch.setattr(results, "write_part", full)
    with pytest.raises(BadInput, match=r"No space left on device\); change its permissions, free space"):
        store.append("steps", [{"key": "a"}])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_killed_before_the_rename_leaves_no_part(tmp_path: Path, function: str) -> None:
    store = ResultsStore(tmp_path)
    store.append("steps", [{"key": "kept"}])
    killed = subprocess.run([sys.executable, "-c", KILLED_AT, str(tmp_path), function], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob(".*.tmp"))) == 1
    assert len(list((tmp_path / "steps").iterdir())) == 1, "others read the folder: nothing but parts in it"
    assert store.read("steps")["key"].to_pylist() == ["kept"]
    assert store.skipped == ()
    assert ds.dataset(tmp_path / "steps", format="parquet").to_table()["key"].to_pylist() == ["kept"]
    assert pd.read_parquet(tmp_path / "steps")["key"].to_list() == ["kept"]


def test_killed_at_any_moment_every_finished_part_is_whole(tmp_path: Path) -> None:
    finished: list[str] = []
    for attempt in range(4):
        writer = start(tmp_path, f"w{attempt}", 10_000)
        assert writer.stdout is not None
        finished.append(writer.stdout.readline().strip())
        time.sleep(0.013 * attempt)
        writer.kill()
        finished += [line.strip() for line in writer.stdout if line.endswith("\n")]
        assert writer.wait() == -signal.SIGKILL
    store = ResultsStore(tmp_path, create=False)
    rows, parts = store.read("steps"), list((tmp_path / "steps").glob("*.parquet"))
    assert store.skipped == ()
    assert set(finished) <= {str(path) for path in parts}
    assert rows.num_rows == 200 * len(parts) >= 200 * len(finished)


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [start(tmp_path, name, 15) for name in ("left", "right")]
    store = ResultsStore(tmp_path)
    while any(writer.poll() is None for writer in writers):
        store.read("steps")
        assert store.skipped == ()
        time.sleep(0.02)
    for writer in writers:
        output, _ = writer.communicate()
        assert writer.returncode == 0
        assert len(output.splitlines()) == 15
    rows = store.read("steps")
    assert rows.num_rows == 2 * 15 * 200
    assert sorted(set(rows["search"].to_pylist())) == ["left", "right"]


def test_pyarrow_and_pandas_read_the_folder_as_it_stands(tmp_path: Path) -> None:
    store = ResultsStore(tmp_path)
    store.append("searches", [search_row()])
    store.append("searches", [search_row(key="b", lfr=None, uses_oracle=True)])
    dataset = ds.dataset(tmp_path / "searches", format="parquet")
    assert dataset.schema.metadata[VERSION_ENTRY] == str(SCHEMA_VERSION).encode()
    assert dataset.count_rows(filter=ds.field("uses_oracle")) == 1
    assert sorted(pd.read_parquet(tmp_path / "searches")["key"]) == ["a", "b"]


def test_parts_follow_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        path = ResultsStore(tmp_path).append("runs", [{"key": "a"}])
    finally:
        os.umask(old)
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o644


def test_an_interrupted_file_is_removed_and_the_old_one_kept(tmp_path: Path) -> None:
    def interrupted(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    target = tmp_path / "deep" / "x.png"
    write_atomically(target, lambda path: void(path.write_text("old")))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, interrupted)
    assert [path.name for path in target.parent.iterdir()] == ["x.png"]
    assert target.read_text() == "old"


def void(_: object) -> None:
    return None
