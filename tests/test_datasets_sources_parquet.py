import io
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from theriac.datasets.sources import parquet
from theriac.datasets.sources.parquet import load_parquet, names_in_file
from theriac.errors import BadInput


def png(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(
    path, values, labels, metadata=None, struct=False, rows=3, names=("image", "label"), statistics=True
):
    images = [None if value is None else png(value) for value in values]
    column = pa.array(images, pa.binary())
    if struct:
        column = pa.StructArray.from_arrays([column, pa.nulls(len(images), pa.string())], ["bytes", "path"])
    table = pa.table([column, pa.array(labels, pa.int8())], names=list(names))
    table = table.replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=rows, write_statistics=statistics)
    return path


def first_pixels(source, positions):
    return source.images(torch.tensor(positions))[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("struct", [False, True])
def test_both_layouts_over_row_groups(tmp_path, struct):
    source = load_parquet(write(tmp_path / "a.parquet", range(8), [0, 1, 2, 0, 1, 2, 0, 1], struct=struct))
    assert first_pixels(source, [7, 0, 3, 3, 5]) == [7, 0, 3, 3, 5]
    assert source.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert source.labels.dtype == torch.int64
    assert source.classes == ("0", "1", "2")
    assert source.shape == (3, 4, 4)


def test_several_files_keep_their_order_and_folders_are_sorted(tmp_path):
    late = write(tmp_path / "b.parquet", [10, 11, 12, 13], [1, 1, 1, 1])
    early = write(tmp_path / "a.parquet", [1, 2], [0, 0])
    assert first_pixels(load_parquet(tmp_path), range(6)) == [1, 2, 10, 11, 12, 13]
    source = load_parquet([late, str(early)])
    assert first_pixels(source, range(6)) == [10, 11, 12, 13, 1, 2]
    assert source.labels.tolist() == [1, 1, 1, 1, 0, 0]
    assert source.name(3) == f"row 3 of {late}"
    assert source.name(5) == f"row 1 of {early}"


def test_column_names_and_image_size(tmp_path):
    path = write(tmp_path / "a.parquet", [1, 2], [0, 1], names=("img", "fine_label"))
    source = load_parquet(path, image_column="img", label_column="fine_label", image_size=9, channels=1)
    assert source.images(torch.arange(2)).shape == (2, 1, 9, 9)


HUGGING_FACE = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}})


@pytest.mark.parametrize(
    "metadata",
    [
        {"classes": "cat,dog"},
        {"class_names": "cat, dog"},
        {"label_names": '["cat", "dog"]'},
        {"huggingface": HUGGING_FACE},
    ],
)
def test_class_names_from_metadata(tmp_path, metadata):
    path = write(tmp_path / "a.parquet", [1, 2], [0, 0], metadata)
    assert load_parquet(path).classes == ("cat", "dog")
    assert load_parquet(path, classes=["cat", "dog"]).classes == ("cat", "dog")
    assert names_in_file(path) == ("cat", "dog")


def test_hugging_face_metadata_without_names_gives_numbers(tmp_path):
    features = json.dumps({"info": {"features": {"label": {"dtype": "int64", "_type": "Value"}}}})
    assert load_parquet(write(tmp_path / "a.parquet", [1], [2], {"huggingface": features})).classes == (
        "0",
        "1",
        "2",
    )


@pytest.mark.parametrize(
    "metadata", [{"huggingface": "{broken"}, {"classes": "[broken"}, {"huggingface": "[]"}]
)
def test_broken_metadata_is_named(tmp_path, metadata):
    path = write(tmp_path / "a.parquet", [1], [0], metadata)
    with pytest.raises(BadInput, match=r"a\.parquet: its metadata does not hold .*JSON list"):
        load_parquet(path)


def test_given_classes_serve_files_without_names(tmp_path):
    path = write(tmp_path / "a.parquet", [1], [1])
    assert load_parquet(path, classes=["x", "y", "z"]).classes == ("x", "y", "z")


def test_class_names_that_differ_are_refused(tmp_path):
    path = write(tmp_path / "a.parquet", [1], [1], {"classes": "cat,dog"})
    other = write(tmp_path / "b.parquet", [1], [1], {"classes": "dog,cat"})
    with pytest.raises(BadInput, match=r"a\.parquet: .*those given: class 1 is 'dog', not 'cow'"):
        load_parquet(path, classes=["cat", "cow"])
    with pytest.raises(BadInput, match=r"there are 2 classes, not 3"):
        load_parquet(path, classes=["cat", "dog", "cow"])
    with pytest.raises(BadInput, match=r"b\.parquet: .*those of .*a\.parquet: class 0 is 'dog'"):
        load_parquet([path, other])


def test_it_pickles_small_and_reads_again(tmp_path):
    path = write(tmp_path / "a.parquet", range(8), [0] * 8)
    source = load_parquet(path)
    source.images(torch.arange(8))
    data = pickle.dumps(source)
    assert png(5) not in data
    assert first_pixels(pickle.loads(data), [5, 2]) == [5, 2]


def test_the_cache_is_bounded(tmp_path, monkeypatch):
    store = parquet.ParquetBytes([write(tmp_path / "a.parquet", range(9), [0] * 9)], "image")
    held = len(png(0)) * 3 + 50
    monkeypatch.setattr(parquet, "CACHE_BYTES", 2 * held)
    assert [store.read(position) for position in (0, 4, 8, 1)] == [png(0), png(4), png(8), png(1)]
    assert len(store._cache) <= 2


def test_missing_columns_list_the_present_ones(tmp_path):
    path = write(tmp_path / "a.parquet", [1], [1], names=("picture", "label"))
    with pytest.raises(
        BadInput,
        match=r"no column 'image' or 'img'; its columns are picture, label: rename the right one to 'image'",
    ):
        load_parquet(path)
    with pytest.raises(BadInput, match="has no column 'y'"):
        load_parquet(path, image_column="picture", label_column="y")


@pytest.mark.parametrize("names", [("img", "label"), ("image", "labels"), ("img", "fine_label")])
def test_usual_names_of_columns_just_work(tmp_path, names):
    source = load_parquet(write(tmp_path / "a.parquet", [4, 5], [1, 0], names=names, struct=True))
    assert (first_pixels(source, [0, 1]), source.labels.tolist()) == ([4, 5], [1, 0])


def test_labels_that_would_mean_endless_classes_are_refused(tmp_path):
    path = tmp_path / "a.parquet"
    for label in (1 << 20, (1 << 62)):
        pq.write_table(pa.table({"image": [png(0)], "label": [label]}), path)
        with pytest.raises(BadInput, match=f"label {label} would mean as many classes, .*correct the labels"):
            load_parquet(path)


def test_deep_metadata_is_refused(tmp_path):
    path = write(tmp_path / "a.parquet", [1], [0], {"huggingface": "[" * 100_000})
    with pytest.raises(BadInput, match=r"list of class names \(it is nested more than 64 deep\)"):
        load_parquet(path)


def test_hidden_files_and_folders_are_no_parquet(tmp_path):
    (tmp_path / "._a.parquet").write_bytes(b"of another system")
    write(tmp_path / "a.parquet", [5], [0])
    assert first_pixels(load_parquet(tmp_path), [0]) == [5]
    (tmp_path / "b.parquet").mkdir()
    with pytest.raises(BadInput, match=r"b\.parquet: it is a directory, not a file; give Parquet files"):
        load_parquet(tmp_path)


def test_a_value_that_is_stored_once_takes_memory_once(tmp_path):
    value = bytes(4 << 20)
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array([value]))
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": column, "label": [0] * 64}), path, store_schema=False)
    store = parquet.ParquetBytes([path], "image")
    assert store.read(63) == value
    assert sum(held.nbytes for held in store._cache.values()) < 2 * len(value)


def test_columns_of_another_type(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": ["text"], "label": ["cat"], "n": [1]}), path)
    with pytest.raises(BadInput, match=r"column 'image' is string; give encoded images"):
        load_parquet(path)
    pq.write_table(pa.table({"image": [b"x"], "label": ["cat"]}), path)
    with pytest.raises(BadInput, match=r"column 'label' is string; give labels as integers"):
        load_parquet(path)
    pq.write_table(pa.table({"image": [{"path": "x"}], "label": [1]}), path)
    with pytest.raises(BadInput, match=r"column 'image' is struct.*field bytes"):
        load_parquet(path)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"a\.parquet: no rows"):
        load_parquet(write(tmp_path / "a.parquet", [], []))


def test_an_empty_part_is_no_harm(tmp_path):
    write(tmp_path / "a.parquet", [], [])
    write(tmp_path / "b.parquet", [5], [0])
    assert first_pixels(load_parquet(tmp_path), [0]) == [5]


@pytest.mark.parametrize("keep", [0, 2, 200])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = write(tmp_path / "a.parquet", range(9), [0] * 9)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match=r"a\.parquet cannot be read as Parquet .*truncated.*fetch it again"):
        load_parquet(path)


def test_a_damaged_page_is_named(tmp_path):
    path = write(tmp_path / "a.parquet", range(9), [0] * 9)
    data = bytearray(path.read_bytes())
    data[4:40] = b"\xff" * 36
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.parquet cannot be read as Parquet"):
        load_parquet(path).images(torch.arange(9))


@pytest.mark.parametrize("struct", [False, True])
def test_null_images_are_refused_before_any_work(tmp_path, struct):
    path = write(tmp_path / "a.parquet", [1, 2, 3, None], [0] * 4, struct=struct)
    with pytest.raises(BadInput, match=r"a\.parquet has 1 nulls in column 'image.*remove those rows"):
        load_parquet(path)


def test_null_images_without_statistics_are_named_when_read(tmp_path):
    path = write(tmp_path / "a.parquet", [1, 2, 3, 4, None], [0] * 5, statistics=False)
    with pytest.raises(BadInput, match=r"row 4 of .*a\.parquet is null in column 'image'"):
        load_parquet(path).images(torch.arange(5))


def test_null_and_negative_labels_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"a\.parquet has 1 nulls in column 'label'"):
        load_parquet(write(tmp_path / "a.parquet", [1, 2], [0, None]))
    with pytest.raises(BadInput, match=r"b\.parquet: label -1 at position 1 is out of range"):
        load_parquet(write(tmp_path / "b.parquet", [1, 2], [0, -1]))


def test_a_bad_image_is_named_by_row_and_file(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [png(0), b"bad"], "label": [0, 0]}), path)
    with pytest.raises(BadInput, match=r"row 1 of .*a\.parquet cannot be read as an image"):
        load_parquet(path).images(torch.arange(2))


def test_missing_files(tmp_path):
    with pytest.raises(BadInput, match="does not exist"):
        load_parquet(tmp_path / "no.parquet")
    with pytest.raises(BadInput, match=r"holds no \*\.parquet files"):
        load_parquet(tmp_path)
    with pytest.raises(BadInput, match="empty list"):
        load_parquet([])
