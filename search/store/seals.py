"""What proves that an entry of an artifact store is whole, unchanged and the one that was asked for.

The record of an entry (info.json) states the size and the SHA-256 of its data, the name of the entry, and
a seal over all that. They guard against broken disks, cut transfers, mixed-up and edited files; not against
somebody who seals anew what he has changed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .small_files import NoFile, check_file

Record = dict[str, Any]

SIZE, STORED_AS, CHECKSUM, NAME, SEAL = "bytes", "file", "sha256", "entry", "seal"
RESERVED = (SIZE, STORED_AS, CHECKSUM, NAME, SEAL)
"""What info.json says beside what the caller gave."""

RACY_SECONDS = 1.0
"""File systems date changes in ticks: what is younger may change once more and keep its date."""

Stamp = tuple[tuple[int, ...], ...]


class Damaged(Exception):
    """Why an entry cannot be used."""


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sealed(info: Record, name: str, data: Path) -> Record:
    """Return ``info`` with what proves the entry ``name``, whose data are in the file ``data``."""
    record = {**info, SIZE: data.stat().st_size, CHECKSUM: checksum(data), NAME: name}
    return {**record, SEAL: _seal(record)}


def read_record(content: bytes, name: str) -> Record:
    """Return what an info.json says, if it is unchanged and that of the entry ``name``.

    Raises:
        Damaged: it is not.
    """
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise Damaged("info.json is not readable")
    if SEAL not in record:
        raise Damaged("it has no checksum, as an earlier version of theriac wrote it, and cannot be verified")
    if record[SEAL] != _seal(record):
        raise Damaged("info.json has been changed since it was written")
    if record.get(NAME) != name:
        raise Damaged(f"it was written as {record.get(NAME)}")
    return record


def check_data(data: Path, record: Record) -> None:
    """Look whether a data file is the one that its record speaks of; a file of a gigabyte takes a second.

    Raises:
        Damaged: it is not, or is gone.
        OSError: it cannot be read for a reason that has nothing to do with its content.
    """
    try:
        check_size(check_file(data).st_size, record)
        if checksum(data) != record[CHECKSUM]:
            raise Damaged("its data do not match their checksum")
    except FileNotFoundError:
        check_size(None, record)
    except NoFile as error:
        raise Damaged(f"its data: {error}") from error
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        raise Damaged(f"its data cannot be read ({error.strerror})") from error


def check_size(size: int | None, record: Record) -> None:
    """Compare the size of the data (None: there are none) with the record's.

    Raises:
        Damaged: it is another.
    """
    if size is None or size != record[SIZE]:
        raise Damaged(f"its data has {size or 0} bytes and not {record[SIZE]}")


def _seal(record: Record) -> str:
    """Return the SHA-256 of the record, the seal apart, as JSON reads it back."""
    plain = json.loads(json.dumps({name: value for name, value in record.items() if name != SEAL}))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass
class _Look:
    stamp: Stamp
    first: float
    last: float


class Verified:
    """Which files this process has verified, as they were then: each is read once, not at every use."""

    def __init__(self) -> None:
        self._looks: dict[str, _Look] = {}

    def knows(self, name: str, stamp: Stamp) -> bool:
        """Tell whether the files of ``name`` had this stamp when verified, and it can be relied on."""
        look = self._looks.get(name)
        return look is not None and look.stamp == stamp and look.last - look.first > RACY_SECONDS

    def note(self, name: str, stamp: Stamp) -> None:
        """Note that the files of ``name`` were just verified, and had this stamp before and after."""
        now, look = time.monotonic(), self._looks.get(name)
        age = min((time.time_ns() - newest) / 1e9 for newest in (max(one[-2:]) for one in stamp))
        first = look.first if look is not None and look.stamp == stamp else now - max(0.0, age)
        self._looks[name] = _Look(stamp=stamp, first=first, last=now)


def stamp_of(files: Iterable[Path]) -> Stamp:
    """Return what changes when a file does: its number, size and dates.

    Raises:
        OSError: one is not there.
    """
    found = [os.stat(file) for file in files]
    return tuple((one.st_ino, one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in found)
