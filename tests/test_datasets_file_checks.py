import os
import socket
from typing import Any

import pytest

from theriac.datasets.file_checks import (
    MOST_JSON_DEPTH,
    check_file,
    expanded,
    kind_refused,
    parse_json,
    read_bytes,
    read_head,
    read_text,
)
from theriac.errors import BadInput


def refuse(match, path, most_bytes=100):
    for read in (check_file, read_bytes, read_text):
        with pytest.raises(BadInput, match=rf"^thing .*{match}; mend it$"):
            read(path, "thing", remedy="mend it", most_bytes=most_bytes)


def test_regular_files_and_links_to_them_are_read(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfsome text")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        given: dict[str, Any] = {"what": "thing", "remedy": "mend it", "most_bytes": 12}
        assert check_file(tmp_path / name, **given) == 12
        assert read_bytes(str(tmp_path / name), **given) == b"\xef\xbb\xbfsome text"
        assert read_text(tmp_path / name, **given) == "some text"
        assert read_head(tmp_path / name, 5) == b"\xef\xbb\xbfso"
    refuse("it has 12 bytes, and at most 11 bytes are read", tmp_path / "a", 11)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refuse("it is a named pipe, not a regular file", tmp_path / "pipe")
    for device in ("zero", "null"):
        (tmp_path / device).symlink_to(f"/dev/{device}")
        refuse("it is a device, not a regular file", tmp_path / device)
    refuse("it is a directory, not a file", tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    refuse("Too many levels of symbolic links", tmp_path / "loop")
    refuse("No such file or directory", tmp_path / "none")
    refuse("File name too long", tmp_path / ("x" * 999))
    refuse("embedded null byte", "a\0b")


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # its name must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        refuse("it is a socket, not a regular file", "s")


def test_a_file_that_turns_into_a_pipe_is_not_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr("theriac.datasets.file_checks.check_file", lambda *_, **__: 0)
    with pytest.raises(BadInput, match="it is a named pipe"):
        read_bytes(tmp_path / "pipe", "thing", remedy="mend it", most_bytes=9)


def test_a_file_that_is_larger_than_it_says_is_refused():
    with pytest.raises(BadInput, match="it holds more than 9 bytes"):  # its size is 0
        read_bytes("/proc/self/status", "thing", remedy="mend it", most_bytes=9)


def test_a_sparse_file_is_refused_by_its_size(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(3 << 40)
    refuse(r"it has 3.07e\+03 GiB, and at most 1.5 KiB are read", tmp_path / "sparse", 1536)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a").write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match=r"it is not UTF-8 text \(byte 3\); mend it"):
        read_text(tmp_path / "a", "thing", remedy="mend it", most_bytes=9)


def test_home_folders():
    assert expanded("a/b").parts == ("a", "b")
    with pytest.raises(
        BadInput, match="~nobody-here/x: the folder that ~nobody-here stands for is not known"
    ):
        expanded("~nobody-here/x")


def test_kinds():
    assert kind_refused(0o100644) is None
    assert "device" in str(kind_refused(0o060000))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested more than"),
        ("[" * (MOST_JSON_DEPTH + 1) + "]" * (MOST_JSON_DEPTH + 1), "nested more than"),
        ("[NaN]", "NaN, which is no finite number"),
        ("[-Infinity]", "-Infinity"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ("9" * 9999, "limit"),
        ("{", "Expecting"),
        ("", "Expecting"),
    ],
    ids=["endless", "deep", "nan", "infinite", "twice", "long", "cut", "empty"],
)
def test_json_that_is_not_taken(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)


def test_json_that_is_taken():
    assert parse_json('{"a": [1, null, "x"]}') == {"a": [1, None, "x"]}
    deepest = "[" * MOST_JSON_DEPTH + "]" * MOST_JSON_DEPTH
    assert parse_json(deepest.encode()) is not None
