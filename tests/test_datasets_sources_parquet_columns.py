from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from theriac.datasets.sources import parquet_columns
from theriac.datasets.sources.parquet_columns import (
    check_group,
    find_image_column,
    find_label_column,
    image_field,
    opened_parquet,
    read_labels,
)
from theriac.errors import BadInput


def write(path, columns, **settings):
    pq.write_table(pa.table(list(columns.values()), names=list(columns)), path, **settings)
    return path


def labels(path, values, kind=None, classes=None):
    return read_labels(
        write(path / "a.parquet", {"label": pa.array(values, kind)}), "label", classes
    ).tolist()


@pytest.mark.parametrize(
    "kind", [pa.int8(), pa.uint8(), pa.uint64(), pa.int64(), pa.dictionary(pa.int8(), pa.int32())]
)
def test_integers_of_every_kind_are_labels(tmp_path, kind):
    assert labels(tmp_path, [3, 0, 3], kind) == [3, 0, 3]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_names_become_positions_in_the_classes(tmp_path, kind):
    assert labels(tmp_path, ["dog", "cat", "dog"], kind, ("ant", "cat", "dog")) == [2, 1, 2]


@pytest.mark.parametrize(
    ("values", "kind", "classes", "message"),
    [
        ([0, 2**64 - 1], pa.uint64(), None, "numbers that are no labels .*number them 0, 1, 2"),
        ([0.0, 1.0], None, None, "is double; give labels as integers$"),
        ([True], None, None, "is bool; give labels as integers$"),
        ([None], pa.null(), None, "is null; give labels as integers$"),
        ([[1]], None, None, "is list<.*; give labels as integers$"),
        (["cat"], None, None, r"is string; give labels as integers, or tell the classes .*\(--classes"),
        (["cat", "eel"], None, ("cat", "dog"), r"holds 'eel', which is none of the 2 classes \(cat, dog\)"),
        (["cat", None], None, ("cat", "dog"), "has 1 nulls in column 'label'"),
    ],
)
def test_columns_that_are_no_labels(tmp_path, values, kind, classes, message):
    with pytest.raises(BadInput, match=rf"a\.parquet.*{message}") as error:
        labels(tmp_path, values, kind, classes)
    assert "\n" not in str(error.value)


def test_endless_rows_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_columns, "MOST_ROWS", 2)
    assert labels(tmp_path, [1, 1]) == [1, 1]
    with pytest.raises(BadInput, match=r"a\.parquet states 3 rows; give files of at most 2"):
        labels(tmp_path, [1, 1, 1])


def test_columns_are_found_by_their_usual_names(tmp_path):
    path = write(tmp_path / "a.parquet", {"fine_label": [1], "img": [b"x"], "labels": [2]})
    assert (find_image_column(path), find_label_column(path)) == ("img", "labels")
    assert find_label_column(path, "fine_label") == "fine_label"
    assert image_field(path, "img") == "img"


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2]), pa.array([b"x"])], names=["label", "label", "image"])
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(BadInput, match=r"a\.parquet has 2 columns 'label'; keep one of them"):
        find_label_column(tmp_path / "a.parquet")


def test_structs_without_bytes_are_described_shortly(tmp_path):
    wide = {f"field{number}": number for number in range(99)}
    path = write(tmp_path / "a.parquet", {"image": pa.array([wide])})
    with pytest.raises(BadInput, match=r"is struct<field0.*\.\.\.; give encoded images") as error:
        image_field(path, "image")
    assert len(str(error.value)) < 400 + len(str(path))


def test_a_row_group_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", {"image": [bytes(100_000)]}, compression="zstd")
    with opened_parquet(path) as file:
        group = file.metadata.row_group(0)
    check_group(path, group, "image")
    monkeypatch.setattr(parquet_columns, "FREE_BYTES", 1000)
    with pytest.raises(BadInput, match=r"a row group holds 1\d{5} bytes of images in \d+ bytes of the file"):
        check_group(path, group, "image")
    check_group(path, group, "another column")


def test_deep_nesting_is_no_harm(tmp_path):
    kind = pa.int64()
    for _ in range(50):
        kind = pa.struct([("a", kind)])
    path = write(tmp_path / "a.parquet", {"label": [1], "x": pa.array([None], kind)})
    assert read_labels(path, find_label_column(path), None).tolist() == [1]


def test_what_is_no_regular_file_is_refused(tmp_path):
    (tmp_path / "zero.parquet").symlink_to("/dev/zero")
    with (
        pytest.raises(BadInput, match=r"zero\.parquet: it is a device, not a regular file"),
        opened_parquet(tmp_path / "zero.parquet"),
    ):
        pass


def test_a_relative_path_with_a_colon_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Path("run-11:30")
    place.mkdir()
    write(tmp_path / place / "a.parquet", {"label": [1, 0]})
    assert read_labels(place / "a.parquet", "label", None).tolist() == [1, 0]
