"""Temporary folders of a process, which the next one removes if it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "theriac-"
LOCK, ALSO = ".lock", ".also"
YOUNG_SECONDS = 60.0
"""A folder that was made so recently may not be locked yet."""


@contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A temporary folder that is gone afterwards; those of killed processes are removed first.

    Its owner holds a lock, which ends with the process.

    Args:
        purpose: a word that its name shows.
    """
    remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{purpose}-"))
    with (folder / LOCK).open("w") as lock:
        with suppress(OSError):  # where files cannot be locked, nobody takes the folder for abandoned
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            _remove(folder)


def remove_also(folder: Path, other: Path) -> None:
    """``other`` goes with the scratch folder: what somebody else made for its owner."""
    (folder / ALSO).write_text(str(other), encoding="utf-8")


def remove_abandoned() -> None:
    """The scratch folders of this user whose processes are gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        with suppress(OSError):  # no scratch folder, or it is being removed
            found = folder.lstat()  # what others leave in a shared /tmp must not make us remove anything
            old = time.time() - found.st_mtime > YOUNG_SECONDS
            if old and found.st_uid == os.getuid() and folder.is_dir() and _abandoned(folder):
                _remove(folder)


def _abandoned(folder: Path) -> bool:
    with (folder / LOCK).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):
        shutil.rmtree((folder / ALSO).read_text(encoding="utf-8"), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
