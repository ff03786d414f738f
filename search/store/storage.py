"""Where files live that several machines share: a folder, or what a URI names.

A plain path is a folder that every machine sees (a local disk, NFS). A URI is anything that pyarrow's file
systems open (s3://, gs://, abfs://, hdfs://, file://), and else what fsspec has a driver for. Nothing here
imports either for a plain path.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from ...errors import BadInput
from .locations import checked_folder, checked_location, is_uri, shown

PROBES = "probes"

__all__ = [
    "FolderStorage",
    "Storage",
    "checked_folder",
    "checked_location",
    "flush",
    "is_uri",
    "open_storage",
    "read_probe",
    "remove_probes",
    "shown",
    "write_probe",
]


class Storage(Protocol):
    """Named files under one location. Names are relative, with "/" between their parts.

    All methods raise `BadInput` where the location cannot be reached, read or written.
    """

    location: str

    def read(self, name: str) -> bytes | None:
        """Read the content of a small file; None if there is none."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Make or replace a small file."""
        ...

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file to ``name``."""
        ...

    def download(self, name: str, target: Path) -> None:
        """Copy ``name`` to a local file. Errors of the local disk are left as they are (OSError)."""
        ...

    def size(self, name: str) -> int | None:
        """Return the bytes of a file; None if there is none."""
        ...

    def modified(self, name: str) -> float | None:
        """Return when a file was written, in seconds by the clock of the storage; None if gone or unknown."""
        ...

    def move(self, name: str, target: str) -> None:
        """Give a file another name; no error if it is gone."""
        ...

    def delete(self, name: str) -> None:
        """Remove a file; no error if there is none."""
        ...

    def delete_folder(self, name: str) -> None:
        """Remove all files whose names begin with ``name/``; no error if there are none."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Return the bytes of every file below ``folder``, by name relative to it."""
        ...


class FolderStorage:
    """`Storage` in a folder of the file system.

    Args:
        folder: made on the first write.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).absolute()
        self.location = str(self.folder)

    def read(self, name: str) -> bytes | None:
        with self._naming():
            try:
                return (self.folder / name).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._new(name) as temporary:
            temporary.write_bytes(content)

    def upload(self, source: Path, name: str) -> None:
        with self._new(name) as temporary:
            shutil.copyfile(source, temporary)

    def download(self, name: str, target: Path) -> None:
        shutil.copyfile(self.folder / name, target)

    def size(self, name: str) -> int | None:
        found = self._stat(name)
        return None if found is None else found.st_size

    def modified(self, name: str) -> float | None:
        found = self._stat(name)
        return None if found is None else found.st_mtime

    def move(self, name: str, target: str) -> None:
        path = self.folder / target
        with self._naming(), suppress(FileNotFoundError):
            path.parent.mkdir(parents=True, exist_ok=True)
            os.replace(self.folder / name, path)

    def delete(self, name: str) -> None:
        with self._naming():
            (self.folder / name).unlink(missing_ok=True)

    def delete_folder(self, name: str) -> None:
        with self._naming(), suppress(FileNotFoundError):
            shutil.rmtree(self.folder / name)

    def sizes(self, folder: str) -> dict[str, int]:
        top = self.folder / folder
        with self._naming():
            files = [path for path in top.rglob("*") if path.is_file()]
            return {path.relative_to(top).as_posix(): path.stat().st_size for path in files}

    def _stat(self, name: str) -> os.stat_result | None:
        with self._naming():
            try:
                return (self.folder / name).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None

    @contextmanager
    def _new(self, name: str) -> Iterator[Path]:
        """Yield a temporary path whose file becomes ``name`` in one step."""
        path = self.folder / name
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        with self._naming():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                yield temporary
                flush(temporary)
                os.replace(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"cannot use {self.location} ({error}); choose a folder that every node may read and write"
            ) from error


def open_storage(location: str | Path) -> Storage:
    """Open the files under ``location``; a URI is opened once per process.

    Raises:
        BadInput: an unknown scheme, a driver that is not installed, or a location that cannot be reached.
    """
    name = checked_location(location)
    return _open_uri(name) if is_uri(name) else FolderStorage(name)


@lru_cache(maxsize=32)
def _open_uri(location: str) -> Storage:
    from .remote_storage import RemoteStorage  # imports pyarrow's file systems

    return RemoteStorage(location)


def write_probe(location: str | Path, token: str, name: str) -> None:
    """Leave a sign that only who sees ``location`` can read.

    Args:
        location: a folder or a URI.
        token: of one check; unlike that of every other check.
        name: of the writer, for instance the identity of its node.

    Raises:
        BadInput: ``location`` cannot be written from here.
    """
    open_storage(location).write(_probe_file(token, name), _probe_content(token, name))


def read_probe(location: str | Path, token: str, name: str) -> bool:
    """Tell whether the probe of ``name`` is here, with the content that `write_probe` gave it.

    Args:
        location: a folder or a URI.
        token: of one check; unlike that of every other check.
        name: of the writer, for instance the identity of its node.

    Raises:
        BadInput: ``location`` cannot be read from here.
    """
    return open_storage(location).read(_probe_file(token, name)) == _probe_content(token, name)


def remove_probes(location: str | Path, token: str) -> None:
    """Remove all probes of one check; no error if there are none.

    Args:
        location: a folder or a URI.
        token: of the check.

    Raises:
        BadInput: ``location`` cannot be written from here.
    """
    open_storage(location).delete_folder(f"{PROBES}/{_file_name(token)}")


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _probe_file(token: str, name: str) -> str:
    return f"{PROBES}/{_file_name(token)}/{_file_name(name)}"


def _probe_content(token: str, name: str) -> bytes:
    return f"theriac probe {token} of {name}\n".encode()


def _file_name(text: str) -> str:
    if not text.strip("."):
        raise BadInput(f"{text!r} cannot name a probe; give letters or digits")
    return quote(text, safe="")
