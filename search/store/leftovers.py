"""What killed processes leave behind, removed once it is old and nobody's."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .storage import Storage

STALE_SECONDS = 24 * 3600
"""What has not changed for so long belongs to a killed process, if nobody can tell."""
YOUNG_SECONDS = 3600
"""What has changed since then is left alone, even if nobody seems to hold it."""
CLEANING = "cleaning"
"""Held by who removes lock files, and shared by who takes one: a lock file must not go in between."""

_STAGING = re.compile(r"\..+\.[0-9a-f]{32}")


def remove_stale(directory: Path) -> None:
    """Remove temporary files of results that are older than a day: in ``directory`` and its folders."""
    for path in [*directory.glob(".*.tmp"), *directory.glob("*/.*.tmp")]:
        with suppress(OSError):  # its writer is alive and has renamed it, or it is somebody else's
            if time.time() - path.lstat().st_mtime > STALE_SECONDS and not path.is_dir():
                path.unlink()


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Show others that ``folder`` is in use, until the process ends at the latest."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems cannot lock folders: there, age alone counts
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def remove_staging(folder: Path) -> None:
    """Remove folders in ``folder`` in which an entry was being made by a process that is gone."""
    now = _now(folder)
    for path in list(folder.glob(".*")):
        with suppress(OSError):  # it was published or removed meanwhile
            if _STAGING.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                _remove_if_free(path, now - _changed(path))


def remove_locks(folder: Path) -> None:
    """Remove lock files older than a day that nobody holds or is about to take."""
    with suppress(OSError), (folder / CLEANING).open("a+") as cleaning:
        fcntl.flock(cleaning, fcntl.LOCK_EX | fcntl.LOCK_NB)
        now = _now(folder)
        for path in [path for path in folder.iterdir() if path.name != CLEANING]:
            with suppress(OSError):
                if now - path.stat().st_mtime > STALE_SECONDS:
                    _remove_unlocked(path)


@contextmanager
def keeping_locks(folder: Path) -> Iterator[None]:
    """Let nobody remove lock files of ``folder`` in the body, in which one is taken."""
    with (folder / CLEANING).open("a+") as cleaning:
        fcntl.flock(cleaning, fcntl.LOCK_SH)
        yield


def remove_unnamed(storage: Storage, kinds: tuple[str, ...], others: tuple[str, ...], record: str) -> None:
    """Remove old files of a storage that nothing names, and whatever is old in other folders.

    Args:
        storage: to look through.
        kinds: folders of entries, each a folder of a record and the data files it speaks of.
        others: folders whose files live for a short time.
        record: name of an entry's record.
    """
    names = [f"{folder}/{name}" for folder in others for name in storage.sizes(folder)]
    names += [name for kind in kinds for name in _unnamed(storage, kind, record)]
    if not names:
        return
    now = _storage_now(storage)
    for name in names:
        written = storage.modified(name)
        if now is not None and written is not None and now - written > STALE_SECONDS:
            storage.delete(name)


def _unnamed(storage: Storage, kind: str, record: str) -> list[str]:
    entries: dict[str, list[str]] = {}
    for name in storage.sizes(kind):
        key, _, file = name.partition("/")
        entries.setdefault(key, []).append(file)
    found = []
    for key, files in entries.items():
        data = [file for file in files if file != record]
        if record not in files or len(data) > 1:
            content = storage.read(f"{kind}/{key}/{record}") or b""
            found += [f"{kind}/{key}/{file}" for file in data if f'"{file}"'.encode() not in content]
    return found


def _storage_now(storage: Storage) -> float | None:
    """Read the time by the clock of the storage."""
    probe = f"probes/now-{os.getpid()}-{time.monotonic_ns()}"
    storage.write(probe, b"now")
    now = storage.modified(probe)
    storage.delete(probe)
    return now


def _now(folder: Path) -> float:
    """Read the time by the clock of the file system, which may be another machine's."""
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.fstat(file.fileno()).st_mtime


def _changed(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))


def _remove_if_free(folder: Path, age: float) -> None:
    if age < YOUNG_SECONDS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if _free(descriptor) or (_free(descriptor) is None and age > STALE_SECONDS):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)


def _free(descriptor: int) -> bool | None:
    """Tell whether nobody holds the lock of a file; None where that cannot be known."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_unlocked(path: Path) -> None:
    with path.open("r+") as file:
        if _free(file.fileno()):
            path.unlink()
