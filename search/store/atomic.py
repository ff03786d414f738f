"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], None], *, within: Path | None = None) -> None:
    """Let ``write`` fill a temporary file, flush it to disk and rename it to ``path``.

    Readers see the whole file or none. The temporary name starts with a dot and ends in ``.tmp``; one left by
    a killed writer may be deleted at any time. Missing folders are made.

    Args:
        path: of the file that appears.
        write: is called with the path of the temporary file.
        within: the folder of the temporary file, on the same disk; None: that of ``path``.

    Raises:
        OSError: as the file system says; then neither file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = (within or path.parent) / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        write(temporary)
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # some network file systems cannot flush folders, and say so; the rename itself is still atomic there
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
