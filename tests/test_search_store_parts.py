"""Parts of results: no flipped bit goes unnoticed, and what is no part is named without being opened."""

from __future__ import annotations

import os
import random
import socket
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from theriac.errors import BadInput
from theriac.search.store import parts
from theriac.search.store.parts import UnusablePart, newest_moment, read_part
from theriac.search.store.results import ResultsStore
from theriac.search.store.schemas import SCHEMAS


def written(directory: Path, count: int = 5) -> Path:
    rows = [{"key": f"k{i}", "method": "xlf", "seed": i, "alpha": i / 3, "lfr": [0.5]} for i in range(count)]
    path = ResultsStore(directory).append("searches", rows)
    assert path is not None
    return path


def test_no_flipped_bit_goes_unnoticed(tmp_path: Path) -> None:
    path, draw = written(tmp_path), random.Random(14)
    sound, schema = path.read_bytes(), SCHEMAS["searches"]
    expected = read_part(path, "searches", schema)
    unusable = 0
    for _ in range(400):
        content = bytearray(sound)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(content)
        try:
            assert read_part(path, "searches", schema).equals(expected)
        except UnusablePart:
            unusable += 1
    assert unusable > 380  # all but those in the gap


def test_swapped_and_zeroed_bytes_are_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    content = path.read_bytes()
    for changed in (
        content[:100] + bytes(50) + content[150:],
        content[:-9] + content[-8:],
        bytes(len(content)),
    ):
        path.write_bytes(changed)
        with pytest.raises(UnusablePart):
            read_part(path, "searches", SCHEMAS["searches"])


def test_parts_without_a_checksum_are_read_as_before(tmp_path: Path) -> None:
    path = written(tmp_path)
    expected = read_part(path, "searches", SCHEMAS["searches"])
    pq.write_table(expected, path)
    assert read_part(path, "searches", SCHEMAS["searches"]).equals(expected)
    assert parts._MARK not in path.read_bytes()


def test_other_programs_do_not_see_the_checksum(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert parts._MARK in path.read_bytes()
    assert pq.read_table(path)["key"].to_pylist() == pd.read_parquet(path)["key"].to_list()
    assert pq.ParquetFile(path, memory_map=True).read().num_rows == 5


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(parts.MOST_BYTES + 1)


def listening(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (pipe, "a named pipe, not a regular file"),
        (folder, "a directory, not a file"),
        (endless, "a device, not a regular file"),
        (listening, "a socket, not a regular file"),
        (huge, "more than the 1073741824 that are read"),
    ],
)
def test_what_is_no_part_is_named_and_not_opened(tmp_path: Path, make, reason: str) -> None:
    written(tmp_path)
    make(tmp_path / "searches" / "x.parquet")
    store = ResultsStore(tmp_path, create=False)
    assert store.read("searches").num_rows == 5
    assert [reason in part.reason for part in store.skipped] == [True]


def changed(path: Path, name: str, values: list[object], kind: pa.DataType) -> None:
    table = pq.read_table(path)
    field = pa.field(name, kind)
    pq.write_table(table.set_column(table.schema.get_field_index(name), field, pa.array(values, kind)), path)


@pytest.mark.parametrize(
    ("name", "values", "kind"),
    [
        ("key", ["a", None], pa.string()),
        ("written_at", [2**62, 0], pa.timestamp("us", tz="UTC")),
        ("written_at", [-(2**62), 0], pa.timestamp("us", tz="UTC")),
    ],
)
def test_values_that_no_row_can_have_are_named(tmp_path: Path, name: str, values, kind: pa.DataType) -> None:
    path = written(tmp_path, 2)
    changed(path, name, values, kind)
    with pytest.raises(UnusablePart, match=name):
        read_part(path, "searches", SCHEMAS["searches"])
    store = ResultsStore(tmp_path)
    assert store.append("searches", [{"key": "b"}]) is not None
    assert store.read("searches")["key"].to_pylist() == ["b"]


def test_the_newest_moment_of_a_part(tmp_path: Path) -> None:
    path, moment = written(tmp_path, 2), datetime(2050, 1, 1, tzinfo=UTC)
    changed(path, "written_at", [datetime(2020, 1, 1, tzinfo=UTC), moment], pa.timestamp("us", tz="UTC"))
    assert newest_moment(path, "searches") == moment
    path.write_bytes(b"cut")
    assert newest_moment(path, "searches") is None


def test_a_generation_that_is_none_is_named(tmp_path: Path) -> None:
    ResultsStore(tmp_path).append("steps", [{"key": "a"}])
    generation = tmp_path / ".generation-steps"
    generation.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"generation-steps cannot be read .*remove it"):
        ResultsStore(tmp_path).read("steps")
    generation.unlink()
    os.mkfifo(generation)
    with pytest.raises(BadInput, match="it is a named pipe, not a regular file"):
        ResultsStore(tmp_path).read("steps")


@pytest.mark.parametrize("table", ["runs", "searches"])
def test_a_table_that_is_no_folder_is_named(tmp_path: Path, table: str) -> None:
    (tmp_path / table).touch()
    with pytest.raises(BadInput, match=f"{table} is no folder; move it elsewhere"):
        ResultsStore(tmp_path)
