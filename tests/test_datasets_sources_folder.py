import os

import numpy as np
import pytest
import torch
from PIL import Image

from theriac.datasets.file_checks import MOST_IMAGE_BYTES
from theriac.datasets.sources.folder import load_folder
from theriac.errors import BadInput


def write_image(path, value, height=4, width=4):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    for value, place in enumerate(["dog/2.png", "dog/10.PNG", "cat/b.bmp", "cat/a.png", "ant/deep/er/1.gif"]):
        write_image(tmp_path / place, 10 * value)
    return tmp_path


def test_classes_and_files_are_sorted_as_text(folder):
    source = load_folder(folder)
    assert source.classes == ("ant", "cat", "dog")
    assert source.labels.tolist() == [0, 1, 1, 2, 2]
    assert source.images(torch.arange(5))[:, 0, 0, 0].tolist() == [40, 30, 20, 10, 0]
    assert source.name(0) == str(folder / "ant" / "deep" / "er" / "1.gif")


def test_class_order_does_not_depend_on_the_order_of_creation(tmp_path):
    for name in ("c2", "c10", "c1"):
        write_image(tmp_path / name / "x.png", 0)
    assert load_folder(tmp_path).classes == ("c1", "c10", "c2")


@pytest.mark.parametrize("classes", [None, [str(number) for number in range(12)]])
def test_numbers_are_labels(tmp_path, classes):
    for number in reversed(range(12)):
        write_image(tmp_path / str(number) / "x.png", number)
    source = load_folder(tmp_path, classes=classes)
    assert source.classes == tuple(str(number) for number in range(12))
    assert source.labels.tolist() == source.images(torch.arange(12))[:, 0, 0, 0].tolist() == list(range(12))


def test_a_missing_number_is_a_class_without_images(tmp_path, caplog):
    for number in (0, 1, 3):
        write_image(tmp_path / str(number) / "x.png", number)
    source = load_folder(tmp_path)
    assert (source.classes, source.labels.tolist()) == (("0", "1", "2", "3"), [0, 1, 3])
    assert "number 2 is missing" in caplog.text


def test_a_file_that_became_something_else_is_refused_when_it_is_read(folder):
    source = load_folder(folder)
    (folder / "cat" / "a.png").unlink()
    os.mkfifo(folder / "cat" / "a.png")
    with pytest.raises(BadInput, match=r"a\.png: it is a named pipe, not a regular file; replace it"):
        source.images(torch.tensor([1]))


def test_a_giant_file_is_refused_before_it_is_read(folder):
    with (folder / "cat" / "a.png").open("wb") as file:
        file.truncate(MOST_IMAGE_BYTES + 1)
    with pytest.raises(BadInput, match=r"a\.png: it has 256 MiB, and at most 256 MiB are read; replace it"):
        load_folder(folder).images(torch.tensor([1]))


def test_given_classes_decide_the_labels(folder):
    source = load_folder(folder, classes=["zebra", "dog", "cat", "ant"])
    assert source.classes == ("zebra", "dog", "cat", "ant")
    assert source.labels.tolist() == [3, 2, 2, 1, 1]


def test_given_classes_allow_empty_class_folders(folder):
    (folder / "bee").mkdir()
    assert len(load_folder(folder, classes=["ant", "bee", "cat", "dog"])) == 5


def test_a_class_that_is_not_in_the_list_is_refused(folder):
    with pytest.raises(BadInput, match=r"dog is none of the 2 classes \(ant, cat\)"):
        load_folder(folder, classes=("ant", "cat"))


def test_other_and_hidden_files_are_left_out(folder):
    (folder / "README.txt").write_text("notes")
    (folder / "cat" / "labels.csv").write_text("a")
    (folder / "cat" / ".hidden.png").write_bytes(b"no")
    write_image(folder / ".thumbnails" / "x.png", 1)
    write_image(folder / "cat" / ".cache" / "x.png", 1)
    assert len(load_folder(folder)) == 5
    assert load_folder(folder).classes == ("ant", "cat", "dog")


def test_image_size_and_channels(folder):
    write_image(folder / "dog" / "big.png", 7, 9, 17)
    assert load_folder(folder, image_size=8, channels=1).images(torch.arange(6)).shape == (6, 1, 8, 8)


def test_an_unreadable_file_is_named(folder):
    (folder / "dog" / "broken.png").write_bytes(b"broken")
    with pytest.raises(BadInput, match=r"dog.broken\.png cannot be read as an image"):
        load_folder(folder).images(torch.arange(6))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing", "does not exist; expected one folder a class"),
        ("file", "is not a folder; expected one folder a class"),
        ("empty", "holds no class folders; expected one folder a class"),
        ("flat", "1.png lies outside the class folders; expected one folder a class"),
        ("bare", r"class folder .*cat holds no images"),
        ("heic", r"1\.heic is of a format that cannot be read; convert it to PNG"),
    ],
)
def test_bad_folders(tmp_path, place, message):
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    write_image(tmp_path / "flat" / "1.png", 0)
    (tmp_path / "bare" / "cat").mkdir(parents=True)
    (tmp_path / "heic" / "cat").mkdir(parents=True)
    (tmp_path / "heic" / "cat" / "1.heic").touch()
    with pytest.raises(BadInput, match=message):
        load_folder(tmp_path / place)


def test_no_images_at_all_is_refused_even_with_classes(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(BadInput, match="holds no images; expected one folder a class"):
        load_folder(tmp_path, classes=["cat"])


@pytest.mark.parametrize("image_size", [1, 0, -3, 2.5, True])
def test_a_bad_image_size_is_refused(folder, image_size):
    with pytest.raises(BadInput, match=r"image_size is .*whole number of pixels from 2 on"):
        load_folder(folder, image_size=image_size)
