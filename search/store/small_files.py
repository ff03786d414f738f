"""Small text files that others may have put there: what is no file, or far too large, is not read."""

from __future__ import annotations

import os
from pathlib import Path

from ...datasets.file_checks import kind_refused

SMALL_BYTES = 64 << 20
"""More than any text file that theriac writes; a link to /dev/zero has no end at all."""


class NoFile(OSError):
    """Something under that name cannot be read as a file; the message says what it is."""


def check_file(path: Path, most: int | None = None) -> os.stat_result:
    """Look whether there is an ordinary file, without opening it: to open a pipe may take for ever.

    Args:
        path: links are followed.
        most: bytes it may have; None: any number.

    Raises:
        NoFile: something else is there, or it is larger.
        OSError: as the file system says, such as FileNotFoundError.
    """
    found = path.stat()
    reason = kind_refused(found.st_mode)
    if reason is not None:
        raise NoFile(reason)
    if most is not None and found.st_size > most:
        raise NoFile(f"it has {found.st_size} bytes, more than the {most} that are read")
    return found


def read_small(path: Path, most: int = SMALL_BYTES) -> bytes:
    """Read an ordinary file of at most ``most`` bytes; raises as `check_file` does.

    Args:
        path: links are followed.
        most: bytes it may have.
    """
    check_file(path, most)
    with path.open("rb") as file:
        return file.read(most)
