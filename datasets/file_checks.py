"""Files that users give: their kind and size are checked before a byte of them is read.

Every limit on what is read is named here or beside its reader, and stated in the message that refuses.
"""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import BadInput

MOST_IMAGE_BYTES = 256 << 20
"""Largest file of one image, and largest encoded image in Parquet."""
MOST_PICTURE_BYTES = 64 << 20
"""Largest file of a picture that a trigger is made of."""
MOST_TEXT_BYTES = 16 << 20
"""Largest file of class names."""
MOST_JSON_DEPTH = 64
"""Most mappings and lists inside one another in JSON."""

_KINDS = (
    (stat.S_ISDIR, "it is a directory, not a file"),
    (stat.S_ISFIFO, "it is a named pipe, not a regular file"),
    (stat.S_ISSOCK, "it is a socket, not a regular file"),
    (stat.S_ISCHR, "it is a device, not a regular file"),
    (stat.S_ISBLK, "it is a device, not a regular file"),
)


def expanded(path: str | Path) -> Path:
    """Return the path with ``~`` and ``~name`` written out.

    Raises:
        BadInput: the home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        home = str(path).partition("/")[0]
        raise BadInput(f"{path}: the folder that {home} stands for is not known; write it out") from error


def check_file(path: str | Path, what: str, *, remedy: str, most_bytes: int | None = None) -> int:
    """Return the size in bytes of a regular file, which is not opened.

    Args:
        path: the file; links are followed.
        what: what messages call it, such as "sweep file".
        remedy: what to give instead, the end of the message.
        most_bytes: its largest size; None: any.

    Raises:
        BadInput: nothing there, a folder, a pipe, a socket or a device, or a larger file.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:
        raise _refused(path, what, _reason(error), remedy) from error
    return _checked_size(found, path, what, remedy, most_bytes)


def read_bytes(path: str | Path, what: str, *, remedy: str, most_bytes: int) -> bytes:
    """Read the content of a regular file, see `check_file`.

    What turns into another kind of file meanwhile, or is endless in spite of its size, is refused, too.

    Raises:
        BadInput: as `check_file`, or the file cannot be read.
    """
    check_file(path, what, remedy=remedy, most_bytes=most_bytes)
    try:
        with _opened(path) as file:
            _checked_size(os.fstat(file.fileno()), path, what, remedy, most_bytes)
            data = file.read(most_bytes + 1) or b""  # None: a device that has nothing yet
    except BadInput:
        raise
    except (OSError, ValueError) as error:
        raise _refused(path, what, _reason(error), remedy) from error
    if len(data) > most_bytes:
        raise _refused(path, what, f"it holds more than {_amount(most_bytes)}", remedy)
    return data


def read_head(path: str | Path, count: int) -> bytes:
    """Read the first ``count`` bytes of a file that `check_file` has passed; none where it cannot be read."""
    try:
        with _opened(path) as file:
            return file.read(count) or b""
    except (OSError, ValueError):
        return b""


def read_text(path: str | Path, what: str, *, remedy: str, most_bytes: int) -> str:
    """Read the UTF-8 text in a regular file, without a byte order mark; see `check_file`.

    Raises:
        BadInput: as `read_bytes`, or the content is not UTF-8.
    """
    data = read_bytes(path, what, remedy=remedy, most_bytes=most_bytes)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refused(path, what, f"it is not UTF-8 text (byte {error.start})", remedy) from error


def parse_json(text: str | bytes) -> Any:
    """Return the value that the JSON in ``text`` holds.

    Raises:
        ValueError: it is no JSON, nested more than `MOST_JSON_DEPTH` deep, or holds a number that is not
            finite, or a key twice.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError(f"it is nested more than {MOST_JSON_DEPTH} deep") from error
    _check_depth(value)
    return value


def _refuse_constant(word: str) -> None:
    raise ValueError(f"it holds {word}, which is no finite number")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r:.60} is there twice")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_JSON_DEPTH):
        level = [inner for one in level for inner in _inside(one)]
    if any(isinstance(one, dict | list) for one in level):
        raise ValueError(f"it is nested more than {MOST_JSON_DEPTH} deep")


def _inside(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _opened(path: str | Path) -> BinaryIO:
    """Open without waiting for the other end, should it have become a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    return os.fdopen(descriptor, "rb")


def kind_refused(mode: int) -> str | None:
    """Tell why a file of this ``st_mode`` is not read; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return next((words for test, words in _KINDS if test(mode)), "it is not a regular file")


def _checked_size(
    found: os.stat_result, path: str | Path, what: str, remedy: str, most_bytes: int | None
) -> int:
    reason = kind_refused(found.st_mode)
    if reason is None and most_bytes is not None and found.st_size > most_bytes:
        reason = f"it has {_amount(found.st_size)}, and at most {_amount(most_bytes)} are read"
    if reason is not None:
        raise _refused(path, what, reason, remedy)
    return found.st_size


def _refused(path: str | Path, what: str, reason: str, remedy: str) -> BadInput:
    return BadInput(f"{what} {path}: {reason}; {remedy}")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return (str(error).splitlines() or [type(error).__name__])[0]


def _amount(count: int) -> str:
    """Write bytes in the largest unit of which there is at least one: 256 MiB, 1.5 KiB, 3 bytes."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if count >= 1 << power:
            return f"{count / (1 << power):.3g} {unit}"
    return f"{count} bytes"
