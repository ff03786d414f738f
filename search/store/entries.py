"""The entries of an artifact store: a data file and what is known about it, whole or not at all."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from filelock import FileLock
from safetensors import SafetensorError

from ...errors import BadInput, NotWritable
from .leftovers import keeping_locks, owned, remove_locks, remove_staging
from .seals import (
    RESERVED,
    Damaged,
    Record,
    Verified,
    check_data,
    read_record,
    sealed,
    stamp_of,
)
from .small_files import NoFile, read_small
from .storage import flush

log = logging.getLogger(__name__)

MODELS, IMPORTANCES, TRIALS = "models", "importances", "trials"
WEIGHTS_FILE, IMPORTANCE_FILE, INFO_FILE = "model.safetensors", "importance.safetensors", "info.json"
DATA_FILES = {MODELS: WEIGHTS_FILE, IMPORTANCES: IMPORTANCE_FILE, TRIALS: "trial.json"}
LOCKS = "locks"
DAMAGED = "damaged"
"""The folder of entries that could not be used; nothing reads them, and they may be deleted."""

_verified = Verified()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A finished entry.

    Attributes:
        path: of the data, on this machine.
        record: the content of info.json.
    """

    path: Path
    record: Record

    @property
    def info(self) -> Record:
        """Return what the caller gave."""
        return {name: value for name, value in self.record.items() if name not in RESERVED}


class Entries(Protocol):
    """Where an `ArtifactStore` keeps its entries; kinds are the keys of `DATA_FILES`."""

    root: Path
    location: str

    def find(self, kind: str, key: str) -> Entry | None:
        """Find the entry; None if none can be used: a damaged one is set aside, and named."""
        ...

    def put(self, kind: str, key: str, info: Record, write: Callable[[Path], None]) -> None:
        """Add an entry whose data ``write`` puts into a file; one that is there already stands."""
        ...

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry, if it is there."""
        ...

    def set_aside(self, kind: str, key: str, reason: str) -> None:
        """Put an entry that cannot be used where nothing reads it, and say so."""
        ...

    def making(self, key: str) -> AbstractContextManager[None]:
        """Let one maker of ``key`` at a time into the block."""
        ...

    def remove_leftovers(self) -> None:
        """Remove what killed processes left behind, once it is old."""
        ...

    def usage(self, kind: str) -> tuple[int, int]:
        """Return the number and the bytes of the entries."""
        ...


class LocalEntries:
    """Entries in a folder of this machine or of a shared file system.

    Args:
        root: made if missing.
        copies: whether they are copies of entries elsewhere, of which damaged ones need not be kept.

    Raises:
        BadInput: the folder cannot be made.
    """

    def __init__(self, root: Path, *, copies: bool = False) -> None:
        self.root, self._copies = root.absolute(), copies
        self.location = str(self.root)
        try:
            for kind in DATA_FILES:
                (self.root / kind).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(self.root, error) from error

    def find(self, kind: str, key: str) -> Entry | None:
        try:
            return self._sound(kind, key)
        except Damaged:
            with self._locked(DAMAGED):
                try:
                    return self._sound(kind, key)  # another process was faster
                except Damaged as damage:
                    self.set_aside(kind, key, str(damage))
                    return None

    def set_aside(self, kind: str, key: str, reason: str) -> None:
        folder, aside = self.root / kind / key, self.root / DAMAGED / f"{kind}-{key}-{uuid.uuid4().hex[:8]}"
        if self._copies:
            self.discard(kind, key)
            report(str(folder), reason, None)
            return
        try:
            aside.parent.mkdir(exist_ok=True)
            os.replace(folder, aside)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _not_writable(self.root, error) from error
        report(str(folder), reason, str(aside))

    def _sound(self, kind: str, key: str) -> Entry | None:
        """Return the entry, if it is there; raises `Damaged`."""
        folder = self.root / kind / key
        file, data = folder / INFO_FILE, folder / DATA_FILES[kind]
        try:
            record = read_record(read_small(file), f"{kind}/{key}")
            _verify(data, file, record)
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.path.lexists(folder) and not os.path.lexists(file):
                raise Damaged(f"it has no {INFO_FILE}") from error
            return None
        except NoFile as error:
            raise Damaged(f"{INFO_FILE}: {error}") from error
        except OSError as error:
            raise BadInput(f"cannot read {folder} ({error}); see to its permissions and its disk") from error
        return Entry(path=data, record=record)

    def put(self, kind: str, key: str, info: Record, write: Callable[[Path], None]) -> None:
        with self.staged(kind, key, write) as staging:
            record = sealed(info, f"{kind}/{key}", staging / DATA_FILES[kind])
            self.publish(kind, key, staging, record)

    @contextmanager
    def staged(self, kind: str, key: str, write: Callable[[Path], None]) -> Iterator[Path]:
        """Make a folder with the data, for `publish`; it does not outlive the body.

        Raises:
            BadInput: it cannot be written, for instance because the disk is full.
        """
        staging = self.root / kind / f".{key}.{uuid.uuid4().hex}"
        try:
            staging.mkdir()
            with owned(staging):
                data = staging / DATA_FILES[kind]
                write(data)
                flush(data)
                yield staging
        except (OSError, SafetensorError) as error:  # safetensors hides the OSError
            raise _not_writable(self.root, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def publish(self, kind: str, key: str, staging: Path, record: Record) -> None:
        """Turn a staged folder into the entry, on the disk when this returns; a whole one stands.

        Args:
            kind: of the entry.
            key: of the entry.
            staging: from `staged`.
            record: from `sealed`.
        """
        file = staging / INFO_FILE
        file.write_text(json.dumps(record, indent=2) + "\n")
        flush(file)
        flush(staging)
        folder = self.root / kind / key
        while not _renamed(staging, folder):
            if self.find(kind, key) is not None:
                return
            self.discard(kind, key)
        flush(folder.parent)

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry; it disappears in one step."""
        aside = self.root / kind / f".{key}.{uuid.uuid4().hex}"
        try:
            os.replace(self.root / kind / key, aside)
        except FileNotFoundError:
            return
        shutil.rmtree(aside, ignore_errors=True)

    @contextmanager
    def making(self, key: str) -> Iterator[None]:
        with self._locked(key):
            yield

    def usage(self, kind: str) -> tuple[int, int]:
        with suppress(FileNotFoundError):
            folders = [one for one in (self.root / kind).iterdir() if not one.name.startswith(".")]
            sizes = [_bytes(folder) for folder in folders if (folder / INFO_FILE).is_file()]
            return len(sizes), sum(sizes)
        return 0, 0

    def remove_leftovers(self) -> None:
        for kind in DATA_FILES:
            remove_staging(self.root / kind)
        if (self.root / LOCKS).is_dir():
            remove_locks(self.root / LOCKS)

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        locks = self.root / LOCKS
        lock = FileLock(locks / name)
        try:
            locks.mkdir(exist_ok=True)
            _check_locking(locks)
            with keeping_locks(locks):
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise BadInput(
                f"{locks} cannot lock files ({error}); on NFS, mount it with locking (version 4, or a running"
                " lockd and no 'nolock'), or choose another folder"
            ) from error
        try:
            yield
        finally:
            lock.release()


def _verify(data: Path, file: Path, record: Record) -> None:
    """Compare data and record, unless this process has done so; raises `Damaged`."""
    try:
        stamp = stamp_of((data, file))
    except FileNotFoundError:
        check_data(data, record)
        raise
    if not _verified.knows(str(data), stamp):
        check_data(data, record)
        if stamp_of((data, file)) == stamp:
            _verified.note(str(data), stamp)


@lru_cache(maxsize=1024)
def report(place: str, reason: str, aside: str | None) -> None:
    """Name an entry that cannot be used, once.

    Args:
        place: of the entry.
        reason: why not.
        aside: where it was put; None if it was a copy.
    """
    then = f"it was moved to {aside} and will be made again" if aside else "it will be fetched again"
    log.warning("%s is torn or changed (%s); %s", place, reason, then)


@lru_cache(maxsize=64)
def _check_locking(folder: Path) -> None:
    """Check that files can be locked: filelock would fall back to files that a killed process leaves behind.

    We would wait for those for ever.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _renamed(staging: Path, folder: Path) -> bool:
    """Rename the folder; return False if ``folder`` exists."""
    try:
        os.replace(staging, folder)
    except OSError:
        if not folder.exists():
            raise
        return False
    return True


def _bytes(folder: Path) -> int:
    with suppress(FileNotFoundError):  # it is being replaced
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def _not_writable(folder: Path, error: Exception) -> NotWritable:
    return NotWritable(
        f"cannot write {folder} ({error}); free space on its disk, or choose a folder you may write to"
    )
