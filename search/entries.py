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
from typing import Any, Protocol

from filelock import FileLock
from safetensors import SafetensorError

from ..errors import BadInput, NotWritable
from .storage import flush

log = logging.getLogger(__name__)

MODELS, IMPORTANCES, TRIALS = "models", "importances", "trials"
WEIGHTS_FILE, IMPORTANCE_FILE, INFO_FILE = "model.safetensors", "importance.safetensors", "info.json"
DATA_FILES = {MODELS: WEIGHTS_FILE, IMPORTANCES: IMPORTANCE_FILE, TRIALS: "trial.json"}
SIZE, STORED_AS = "bytes", "file"  # what info.json says beside what the caller gave
LOCKS = "locks"

Record = dict[str, Any]


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
        """What the caller gave."""
        return {name: value for name, value in self.record.items() if name not in (SIZE, STORED_AS)}


class Entries(Protocol):
    """Where an `ArtifactStore` keeps its entries; kinds are the keys of `DATA_FILES`."""

    root: Path
    location: str

    def find(self, kind: str, key: str) -> Entry | None:
        """The entry; None if there is none that is whole."""
        ...

    def put(self, kind: str, key: str, info: Record, write: Callable[[Path], None]) -> None:
        """Add an entry whose data ``write`` puts into a file; one that is there already stands."""
        ...

    def discard(self, kind: str, key: str) -> None:
        """Remove an entry, if it is there."""
        ...

    def making(self, key: str) -> AbstractContextManager[None]:
        """One maker of ``key`` at a time."""
        ...

    def usage(self, kind: str) -> tuple[int, int]:
        """Number and bytes of the entries."""
        ...


class LocalEntries:
    """Entries in a folder of this machine or of a shared file system.

    Args:
        root: made if missing.

    Raises:
        BadInput: the folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.location = str(self.root)
        try:
            for kind in DATA_FILES:
                (self.root / kind).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_writable(self.root, error) from error

    def find(self, kind: str, key: str) -> Entry | None:
        folder = self.root / kind / key
        file = folder / INFO_FILE
        try:
            content = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise BadInput(f"cannot read {file} ({error}); see to its permissions and its disk") from error
        data = folder / DATA_FILES[kind]
        record = sound_record(content, str(folder), lambda _: data.stat().st_size if data.is_file() else None)
        return None if record is None else Entry(path=data, record=record)

    def put(self, kind: str, key: str, info: Record, write: Callable[[Path], None]) -> None:
        with self.staged(kind, key, write) as staging:
            self.publish(kind, key, staging, info)

    @contextmanager
    def staged(self, kind: str, key: str, write: Callable[[Path], None]) -> Iterator[Path]:
        """A folder with the data, for `publish`; it does not outlive the body.

        Raises:
            BadInput: it cannot be written, for instance because the disk is full.
        """
        staging = self.root / kind / f".{key}.{uuid.uuid4().hex}"
        try:
            staging.mkdir()
            data = staging / DATA_FILES[kind]
            write(data)
            flush(data)
            yield staging
        except (OSError, SafetensorError) as error:  # safetensors hides the OSError
            raise _not_writable(self.root, error) from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def publish(self, kind: str, key: str, staging: Path, record: Record) -> None:
        """Turn a staged folder into the entry, on the disk when this returns; a whole one stands."""
        size = (staging / DATA_FILES[kind]).stat().st_size
        file = staging / INFO_FILE
        file.write_text(json.dumps({**record, SIZE: size}, indent=2) + "\n")
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

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        locks = self.root / LOCKS
        lock = FileLock(locks / name)
        try:
            locks.mkdir(exist_ok=True)
            _check_locking(locks)
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


def sound_record(content: bytes, place: str, size: Callable[[Record], int | None]) -> Record | None:
    """What info.json says; None, logged once, where it is not readable or the data is not all there.

    Args:
        content: of info.json.
        place: of the entry, for the log.
        size: bytes of the data of a record; None if there is none.
    """
    try:
        record = json.loads(content)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        _report(place, f"{INFO_FILE} is not readable")
        return None
    found = size(record)
    if found is None or found != record.get(SIZE, found):  # entries of earlier versions state no size
        _report(place, f"its data has {found or 0} bytes and not {record.get(SIZE, 'some')}")
        return None
    return record


@lru_cache(maxsize=1024)
def _report(place: str, reason: str) -> None:
    log.warning("%s is torn (%s); it will be made again", place, reason)


@lru_cache(maxsize=64)
def _check_locking(folder: Path) -> None:
    """Filelock falls back to files that a killed process leaves behind; we would wait for ever."""
    with tempfile.TemporaryFile(dir=folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _renamed(staging: Path, folder: Path) -> bool:
    """False if ``folder`` exists."""
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
