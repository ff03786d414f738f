"""`Storage` behind a URI: pyarrow's file systems, and fsspec's drivers where pyarrow has none."""

from __future__ import annotations

import importlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
from pyarrow import fs

from ...errors import BadInput
from .locations import PYARROW_SCHEMES, masked, shown

CHUNK = 8 << 20  # bytes that are copied at once
FOLDERS = ("local", "hdfs")  # where a folder must exist before its files; object stores have none


class RemoteStorage:
    """Files under a URI.

    On object stores a file appears when it is whole. Elsewhere a file that is being written may be seen in
    part, except on "file://", where it is renamed when it is whole.

    Args:
        location: the URI. Credentials come from where the driver looks for them (environment, metadata
            service, configuration files).

    Raises:
        BadInput: an unknown scheme, a driver that is not installed, or a location that cannot be reached.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        self._files, self._base = _open(location)
        self._fsspec = self._files.handler.fs if isinstance(self._files, fs.PyFileSystem) else None

    def read(self, name: str) -> bytes | None:
        with self._naming():
            try:
                with self._files.open_input_stream(self._path(name)) as stream:
                    return bytes(stream.read())
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        with self._naming():
            self._create(name, lambda stream: stream.write(content))

    def upload(self, source: Path, name: str) -> None:
        with self._naming(), source.open("rb") as file:
            self._create(name, lambda stream: shutil.copyfileobj(file, stream, CHUNK))

    def download(self, name: str, target: Path) -> None:
        with target.open("wb") as file:
            for chunk in self._chunks(name):
                file.write(chunk)

    def size(self, name: str) -> int | None:
        found = self._info(name)
        return None if found is None else int(found.size)

    def modified(self, name: str) -> float | None:
        found = self._info(name)
        if found is None:
            return None
        if found.mtime_ns is not None:
            return float(found.mtime_ns / 1e9)
        return self._modified_by_fsspec(name)

    def move(self, name: str, target: str) -> None:
        with self._naming(), suppress(FileNotFoundError):
            self._make_folder(self._path(target))
            self._files.move(self._path(name), self._path(target))

    def delete(self, name: str) -> None:
        with self._naming(), suppress(FileNotFoundError):
            self._files.delete_file(self._path(name))

    def delete_folder(self, name: str) -> None:
        with self._naming(), suppress(FileNotFoundError):
            self._files.delete_dir(self._path(name))

    def sizes(self, folder: str) -> dict[str, int]:
        self._forget_listings()
        path = self._path(folder)
        with self._naming():
            selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
            files = [one for one in self._files.get_file_info(selector) if one.type == fs.FileType.File]
        return {one.path.removeprefix(path).lstrip("/"): int(one.size) for one in files}

    def _path(self, name: str) -> str:
        return f"{self._base}/{name}"

    def _info(self, name: str) -> Any:
        self._forget_listings()
        with self._naming():
            found = self._files.get_file_info(self._path(name))
        return found if found.type == fs.FileType.File else None

    def _chunks(self, name: str) -> Iterator[bytes]:
        with self._naming():
            stream = self._files.open_input_stream(self._path(name))
        with stream:
            while True:
                with self._naming():
                    chunk = stream.read(CHUNK)
                if not chunk:
                    return
                yield chunk

    def _create(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        path = self._path(name)
        self._make_folder(path)
        if self._files.type_name != "local":
            with self._files.open_output_stream(path) as stream:
                fill(stream)
            return
        temporary = f"{path}.{uuid.uuid4().hex}.tmp"
        try:
            with self._files.open_output_stream(temporary) as stream:
                fill(stream)
            self._files.move(temporary, path)
        except BaseException:
            with suppress(FileNotFoundError):
                self._files.delete_file(temporary)
            raise

    def _make_folder(self, path: str) -> None:
        if self._files.type_name in FOLDERS or self._fsspec is not None:
            self._files.create_dir(path.rpartition("/")[0], recursive=True)

    def _modified_by_fsspec(self, name: str) -> float | None:
        """Ask fsspec itself: pyarrow asks it for "mtime" only, which few drivers give."""
        if self._fsspec is None:
            return None
        with self._naming():
            try:
                return float(self._fsspec.modified(self._path(name)).timestamp())
            except (FileNotFoundError, NotImplementedError):
                return None

    def _forget_listings(self) -> None:
        """Forget the listings that drivers of fsspec remember; others write here too."""
        if self._fsspec is not None:
            self._fsspec.invalidate_cache()

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Name the storage in the errors of drivers, which raise whatever their libraries do."""
        try:
            yield
        except BadInput:
            raise
        except Exception as error:
            reason = _reason(error, self.location)
            raise BadInput(
                f"cannot use {shown(self.location)} ({reason}); check that it has space, and that every node"
                " reaches it and may read and write there"
            ) from _told(error, self.location)


def _open(location: str) -> tuple[Any, str]:
    """Open a pyarrow file system; return it and the path of ``location`` in it."""
    scheme = location.partition("://")[0]
    if scheme not in PYARROW_SCHEMES:
        return _open_with_fsspec(location, scheme)
    try:
        files, path = fs.FileSystem.from_uri(location)
    except pa.ArrowNotImplementedError:  # this pyarrow was built without it
        return _open_with_fsspec(location, scheme)
    except Exception as error:
        raise BadInput(
            f"cannot open {shown(location)} ({_reason(error, location)}); correct the URI, or see that its"
            " driver and credentials are on every node"
        ) from _told(error, location)
    return files, path.rstrip("/")


def _open_with_fsspec(location: str, scheme: str) -> tuple[Any, str]:
    try:
        core = importlib.import_module("fsspec.core")
        files, path = core.url_to_fs(location)
    except ImportError as error:
        unknown = error.name in ("fsspec", "fsspec.core")
        missing = "no fsspec" if unknown else _reason(error, location)
        raise BadInput(
            f"{shown(location)} needs a driver that is not here ({missing}); install it on every node"
        ) from _told(error, location)
    except Exception as error:
        valid = ", ".join(sorted(PYARROW_SCHEMES))
        raise BadInput(
            f"cannot open {shown(location)} ({_reason(error, location)}); correct the URI, or see that its"
            f" server answers; schemes without further packages: {valid}"
        ) from _told(error, location)
    return fs.PyFileSystem(fs.FSSpecHandler(files)), str(path).rstrip("/")


def _reason(error: Exception, location: str) -> str:
    """Return the first line of an error, without secrets."""
    lines = masked(str(error), location).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _told(error: Exception, location: str) -> Exception | None:
    """Return the error as a cause, unless a traceback of it would tell a secret."""
    text = str(error)
    return error if masked(text, location) == text else None
