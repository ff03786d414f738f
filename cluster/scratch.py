"""Temporary folders of a process, which the next one removes if it was killed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import BadInput

PREFIX = "theriac-"
LOCK = ".lock"
YOUNG_SECONDS = 60.0
"""A folder that was made so recently may not be locked yet."""
SOCKET_PATH = 103 if sys.platform == "darwin" else 107
LONGEST = "/theriac-ray-12345678/r/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
SHORT = SOCKET_PATH - len(LONGEST)
"""Bytes of the longest folder below which Ray's sockets have room."""
PLAIN = re.compile(r"[\w./+-]+", re.ASCII)
OTHERS = ("/tmp", "/var/tmp", "/dev/shm")


@contextmanager
def scratch_folder(purpose: str, *, short: bool = False, keep: bool = False) -> Iterator[Path]:
    """Make a temporary folder, open to this user only, that is gone afterwards.

    Folders of killed processes are removed first. Its owner holds a lock, which ends with the process.

    Args:
        purpose: a word that its name shows.
        short: where its path is short and plain enough for Ray's sockets, see `short_parent`.
        keep: leave it to the user.

    Raises:
        BadInput: no folder for temporary files can be written.
    """
    parent = short_parent() if short else temporary_parent()
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-", dir=parent))
    with (folder / LOCK).open("w") as lock:
        with suppress(OSError):  # where files cannot be locked, nobody takes the folder for abandoned
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            if keep:
                (folder / LOCK).unlink()
            else:
                shutil.rmtree(folder, ignore_errors=True)


def temporary_parent() -> Path:
    """Find the folder for temporary files: TMPDIR where it can be used.

    Raises:
        BadInput: there is none.
    """
    try:
        return Path(tempfile.gettempdir())
    except OSError as error:
        raise BadInput(
            f"no folder for temporary files can be written (TMPDIR is {os.environ.get('TMPDIR', '')!r}); "
            f"set TMPDIR to a folder in which you may write, and free some space"
        ) from error


def short_parent() -> Path:
    """Find the folder for temporary files in which Ray's sockets have room; TMPDIR where it will do.

    The paths of sockets are limited, and Ray hands its paths on in command lines.

    Raises:
        BadInput: there is none.
    """
    found = [one for one in _parents() if len(os.fsencode(one)) <= SHORT and PLAIN.fullmatch(str(one))]
    usable = next(filter(_private, found), None)
    if usable is None:
        raise BadInput(
            f"no folder for Ray's sockets (TMPDIR is {os.environ.get('TMPDIR', '')!r}; tried: "
            f"{', '.join(map(str, _parents()))}); set TMPDIR to a folder in which you may write and from "
            f"which others remove nothing, with a path of at most {SHORT} plain characters"
        )
    return usable


def remove_abandoned() -> None:
    """Remove the scratch folders of this user whose processes are gone."""
    for folder in (one for parent in _parents() for one in parent.glob(f"{PREFIX}*-*")):
        with suppress(OSError):  # no scratch folder, or it is being removed
            found = folder.lstat()  # what others leave in a shared /tmp must not make us remove anything
            old = time.time() - found.st_mtime > YOUNG_SECONDS
            if old and found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode) and _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _parents() -> list[Path]:
    """List where scratch folders may lie."""
    with suppress(OSError):
        return list(dict.fromkeys(map(Path, (tempfile.gettempdir(), *OTHERS))))
    return [Path(one) for one in OTHERS]


def _private(parent: Path) -> bool:
    """Tell whether a folder can be made in ``parent`` that other users cannot replace by another."""
    try:
        mode = parent.stat().st_mode
        with tempfile.TemporaryFile(dir=parent):
            return not mode & stat.S_IWOTH or bool(mode & stat.S_ISVTX)
    except OSError:
        return False


def _abandoned(folder: Path) -> bool:
    with (folder / LOCK).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
