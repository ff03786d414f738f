import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from theriac.datasets.local import load_images, load_sets
from theriac.errors import BadInput

NUMBERS = tuple(str(label) for label in range(10))
NAMES = tuple(f"name {label}" for label in range(10))


def png(value, size=4):
    buffer = io.BytesIO()
    Image.fromarray(np.full((size, size, 3), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path, labels, names=None):
    table = pa.table({"image": [png(10 * row) for row in range(len(labels))], "label": labels})
    pq.write_table(table.replace_schema_metadata({"classes": ",".join(names)} if names else None), path)
    return path


def write_folders(folder, names):
    for value, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        (folder / name / "1.png").write_bytes(png(10 * value))
    return folder


def first_pixels(source):
    return source.images(torch.arange(len(source)))[:, 0, 0, 0].tolist()


def test_class_folders(tmp_path):
    source = load_images(str(write_folders(tmp_path, ["cat", "dog"])))
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [0, 1]
    assert first_pixels(source) == [0, 10]


def test_a_parquet_file_whatever_its_ending(tmp_path):
    for name in ("a.parquet", "a.pq"):
        source = load_images(write_parquet(tmp_path / name, [0, 2, 1]))
        assert source.classes == ("0", "1", "2")
        assert source.labels.tolist() == [0, 2, 1]
        assert first_pixels(source) == [0, 10, 20]


def test_a_folder_of_parquet_files_in_the_order_of_their_names(tmp_path):
    write_parquet(tmp_path / "b.parquet", [1])
    write_parquet(tmp_path / "a.parquet", [0, 2])
    assert load_images(tmp_path).labels.tolist() == [0, 2, 1]


def test_size_and_channels_reach_both_kinds(tmp_path):
    write_folders(tmp_path / "folders", ["cat"])
    write_parquet(tmp_path / "a.parquet", [0])
    for path in (tmp_path / "folders", tmp_path / "a.parquet"):
        source = load_images(path, image_size=8, channels=1)
        assert source.shape == (1, 8, 8)
        assert source.images(torch.tensor([0])).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(("retain_names", "classes"), [(None, NUMBERS), (NAMES, NAMES)])
@pytest.mark.parametrize("label", [0, 9])
def test_found_poison_in_parquet_follows_the_classes_of_retain(tmp_path, retain_names, classes, label):
    retain = load_images(write_parquet(tmp_path / "retain.parquet", list(range(10)), retain_names))
    found = write_parquet(tmp_path / "found.parquet", [label, label])
    for given in (retain.classes, list(retain.classes)):
        forget = load_images(found, classes=given)
        assert forget.classes == retain.classes == classes
        assert forget.labels.tolist() == [label, label]
        assert first_pixels(forget) == [0, 10]


def test_found_poison_may_come_in_another_form_than_retain(tmp_path):
    retain = load_images(write_folders(tmp_path / "retain", NAMES))
    by_number = load_images(write_parquet(tmp_path / "found.parquet", [3]), classes=retain.classes)
    by_name = load_images(write_folders(tmp_path / "found", [NAMES[3]]), classes=retain.classes)
    assert by_number.labels.tolist() == by_name.labels.tolist() == [3]
    assert by_number.classes == by_name.classes == NAMES


def test_found_poison_with_a_label_that_retain_lacks_is_refused(tmp_path):
    found = write_parquet(tmp_path / "found.parquet", [0, 10])
    with pytest.raises(BadInput, match=r"found\.parquet: label 10 at position 1 is out of range"):
        load_images(found, classes=NUMBERS)
    with pytest.raises(BadInput, match="horse is none of the 10 classes"):
        load_images(write_folders(tmp_path / "found", ["horse"]), classes=NAMES)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing", "missing does not exist; give a folder of class folders, .*or Parquet"),
        ("empty", "empty is empty; give a folder of class folders, .*or Parquet"),
        ("poison.PNG", "is a single image, so its class is not known; give a folder of class folders"),
        ("notes.txt", "cannot be read as Parquet"),
        ("loose", "lies outside the class folders"),
        ("other", "holds no class folders"),
    ],
)
def test_places_that_hold_no_labelled_images(tmp_path, place, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "poison.PNG").write_bytes(png(0))
    (tmp_path / "notes.txt").write_text("notes")
    for folder, file in (("loose", "1.png"), ("other", "notes.txt")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_bytes(png(0))
    with pytest.raises(BadInput, match=message):
        load_images(tmp_path / place)


def test_sets_that_go_together_have_one_list_of_classes(tmp_path):
    rest, found = write_folders(tmp_path / "rest", NAMES), write_folders(tmp_path / "found", [NAMES[7]])
    sets = load_sets(
        forget=found, retain=rest, clean=str(rest), mean=0.5, std=(0.25,), image_size=8, channels=1
    )
    assert set(sets) == {"forget", "retain", "clean"}
    assert sets["forget"].labels.tolist() == [7]
    views = [sets["forget"], sets["retain"], sets["clean"]]
    assert {view.classes for view in views} == {NAMES}
    assert {(view.mean, view.std, view.source.shape) for view in views} == {((0.5,), (0.25,), (1, 8, 8))}
    assert set(load_sets(forget=found, retain=rest)) == {"forget", "retain"}


def test_classes_that_are_given_number_all_sets(tmp_path):
    rest, found = write_folders(tmp_path / "rest", NAMES[2:]), write_folders(tmp_path / "found", [NAMES[7]])
    sets = load_sets(forget=found, retain=rest, classes=list(NAMES))
    assert sets["retain"].labels.tolist() == list(range(2, 10))
    assert sets["forget"].labels.tolist() == [7]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("cat", "classes = 'cat' is no list of class names"),
        ([], "is no list of class names"),
        ([0, 1], "is no list of class names"),
        (3, "is no list of class names"),
        (["cat", "dog", "cat"], "'cat' is there 2 times"),
    ],
)
def test_classes_that_are_none(tmp_path, classes, message):
    folder = write_folders(tmp_path, ["cat"])
    with pytest.raises(BadInput, match=message):
        load_images(folder, classes=classes)


@pytest.mark.parametrize("splits", [["train"], ["train", "val"]])
def test_a_folder_above_the_class_folders_is_the_one_named(tmp_path, splits):
    for split in splits:
        write_folders(tmp_path / "all" / split, ["cat", "dog"])
    found = write_folders(tmp_path / "found", ["dog"])
    with pytest.raises(BadInput, match=rf"all holds the folders {', '.join(splits)}, .*; give .*all/train$"):
        load_sets(forget=found, retain=tmp_path / "all")
    sets = load_sets(forget=found, retain=tmp_path / "all" / "train")
    assert sets["forget"].labels.tolist() == [1]


def test_images_in_folders_of_a_class_are_no_splits(tmp_path):
    retain = tmp_path / "train"
    for name in ("cat", "dog"):
        write_folders(retain / name, ["images"])
    with pytest.raises(BadInput, match="eel is none of the 2 classes"):
        load_sets(forget=write_folders(tmp_path / "found", ["eel"]), retain=retain)
