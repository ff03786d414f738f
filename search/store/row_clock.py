"""Newest must mean newest, whatever the clocks of the machines say that write rows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from .parts import moment_of, newest_moment

log = logging.getLogger(__name__)

AHEAD_SECONDS = 60.0
"""Clocks of machines that work together differ by seconds; of more than this a user is told."""
TICK = timedelta(microseconds=1)
_LAST = datetime.max.replace(tzinfo=UTC)


class RowClock:
    """Dates the rows of a table after all that are there, as far as this process can see.

    Parts never change, so each is looked at once.

    Args:
        table: its name.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._seen: set[str] = set()
        self._newest: datetime | None = None
        self._lock = threading.Lock()

    def after(self, moment: datetime, parts: Iterable[Path]) -> datetime:
        """Return ``moment``, or a later one if a row of ``parts`` is newer: one whose clock was ahead."""
        with self._lock:
            for path in parts:
                if path.name not in self._seen:
                    self._saw(path, newest_moment(path, self._table))
            if self._newest is None or self._newest <= moment:
                return moment
            _report(self._table, self._newest)
            return self._newest + min(TICK, _LAST - self._newest)

    def saw(self, path: Path, rows: pa.Table) -> None:
        """Take note of a part that was read or written."""
        with self._lock:
            found = pc.max(rows["written_at"]).value
            self._saw(path, None if found is None else moment_of(found))

    def _saw(self, path: Path, newest: datetime | None) -> None:
        self._seen.add(path.name)
        if newest is not None:
            self._newest = max(newest, self._newest or newest)


def _report(table: str, newest: datetime) -> None:
    if newest.timestamp() - time.time() > AHEAD_SECONDS:
        _report_once(f"rows of {table!r} are dated {newest:%Y-%m-%d}, when the clock of a machine was ahead")


@lru_cache(maxsize=64)
def _report_once(finding: str) -> None:
    log.warning("%s; what is written now is dated after them, so that the newest row counts", finding)
