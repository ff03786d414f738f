from pathlib import Path

import pytest

from theriac.datasets.sources.class_names import classes_of_folders, in_order, read_class_names
from theriac.errors import BadInput

NAMES = ("cat", "dog", "ant")


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\nant",
        "\ufeffcat\r\n dog\r\nant\r\n\r\n",
        '["cat", "dog", "ant"]',
        '{"dog": 1, "ant": 2, "cat": 0}',
        '{"0": "cat", "2": "ant", "1": "dog"}',
        '{"model_type": "vit", "id2label": {"0": "cat", "2": "ant", "1": "dog"}}',
        '{"class_to_idx": {"dog": 1, "ant": 2, "cat": 0}}',
    ],
)
def test_every_usual_form_is_read(tmp_path, text):
    (tmp_path / "classes").write_text(text, encoding="utf-8")
    assert read_class_names(tmp_path / "classes") == NAMES


def test_numbers_are_names(tmp_path):
    (tmp_path / "classes").write_text("[0, 2, 1]")
    assert read_class_names(str(tmp_path / "classes")) == ("0", "2", "1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it holds no names"),
        ("{}", "it holds no names"),
        ("cat\n\ndog", "class 1 is '', which is no name"),
        ("cat\ndog\ncat", "'cat' names class 0 and class 2"),
        ('["cat", ["dog"]]', r"class 1 is \['dog'\], which is no name"),
        ("[true]", "class 0 is True"),
        ('{"cat": 0, "dog": 2}', "its labels are not 0 to 1, each once: 1 is missing"),
        ('{"cat": 0, "dog": 0}', "its labels are not 0 to 1"),
        ('{"cat": 1, "dog": 2}', "0 is missing"),
        ('{"cat": "a", "dog": "b"}', "its values are not all labels"),
        ('{"cat": 0, "cat": 1}', "the key 'cat' is there twice"),
        ("[" * 100_000, "nested more than 64 deep"),
        ("cat\0dog", "NUL bytes"),
        ('["cat"', "delimiter"),
    ],
)
def test_files_that_are_no_list_of_classes(tmp_path, text, reason):
    (tmp_path / "classes").write_text(text)
    with pytest.raises(BadInput, match=rf"class names .*classes: .*{reason}.*; give a text file") as error:
        read_class_names(tmp_path / "classes")
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(BadInput, match="give a text file with one class name a line"):
            read_class_names(path)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["10", "9", "0"], ["0", "9", "10"]),
        (["010", "009", "000"], ["000", "009", "010"]),
        (["n02", "n10", "n1"], ["n02", "n1", "n10"]),
        (["2", "10", "cat"], ["10", "2", "cat"]),
        (["2", "10", "²"], ["10", "2", "²"]),
        (["-1", "-2"], ["-1", "-2"]),
    ],
)
def test_numbers_sort_as_numbers_and_all_else_as_text(names, ordered):
    assert in_order(names) == ordered


def classes(*found):
    return classes_of_folders(Path("set"), in_order(found))


def test_text_is_taken_as_it_is(caplog):
    assert classes("n2", "n10") == ("n10", "n2")
    assert classes("cat", "1") == ("1", "cat")
    assert not caplog.records


def test_numbers_from_zero_are_labels_without_a_word(caplog):
    assert classes(*map(str, range(10))) == tuple("0123456789")
    assert classes("00", "01", "02") == ("00", "01", "02")
    assert not caplog.records


def test_another_order_than_image_folder_is_said_once(caplog):
    assert classes(*map(str, range(12)))[9:] == ("9", "10", "11")
    assert len(caplog.records) == 1
    assert "ImageFolder, which sorts them as text (0, 1, 10, ..., 9), give the names" in caplog.text
    assert "--classes FILE" in caplog.text


def test_gaps_keep_their_number_and_are_said(caplog):
    assert classes("0", "1", "3") == ("0", "1", "2", "3")
    assert classes("00", "02", "03") == ("00", "01", "02", "03")
    assert len(caplog.records) == 2
    assert "(0, 1, 3): number 2 is missing, taken for a class without images" in caplog.text


def test_numbers_from_one_are_said(caplog):
    assert classes("1", "2", "3") == ("1", "2", "3")
    assert "folder 1 is label 0; if folder 1 is label 1, give" in caplog.text


@pytest.mark.parametrize("found", [("5", "6"), ("1", "3"), ("0", "999999999"), ("1990", "2000"), ("9",)])
def test_numbers_that_leave_the_labels_open_are_refused(found):
    with pytest.raises(
        BadInput, match=r"set are the numbers .*not known which label each is; give the names"
    ):
        classes(*found)


def test_two_folders_of_one_number_are_refused():
    with pytest.raises(BadInput, match=r"set/1 and set/01 are the same number; rename one"):
        classes("0", "1", "01")
