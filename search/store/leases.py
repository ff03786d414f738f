"""Who makes what, where machines share a storage without locks: a lease, renewed while it is held."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ...errors import BadInput
from .storage import Storage

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LeaseTimes:
    """The times of a lease, in seconds.

    Attributes:
        renew: between two renewals by the holder.
        dead: a lease that was not renewed for so long has no holder any more.
        poll: between two looks of one who waits.
        settle: between writing a lease and looking whose it is; longer than a write usually takes.
    """

    renew: float = 20.0
    dead: float = 90.0
    poll: float = 2.0
    settle: float = 0.5


DEFAULT_TIMES = LeaseTimes()


@contextmanager
def leased(storage: Storage, name: str, times: LeaseTimes = DEFAULT_TIMES) -> Iterator[None]:
    """Hold the lease ``name`` for the body, after waiting for another holder, living or just dead.

    Rarely two may hold it at once (one is cut off for longer than ``times.dead``, or both take it at the same
    moment and one write is slow), so what it guards must bear being done twice.
    """
    lease = _Lease(storage, name, times)
    lease.take()
    stop = threading.Event()
    renewal = threading.Thread(target=lease.renew_until, args=(stop,), name=f"lease {name}", daemon=True)
    renewal.start()
    try:
        yield
    finally:
        stop.set()
        renewal.join()
        lease.release()


class _Lease:
    def __init__(self, storage: Storage, name: str, times: LeaseTimes) -> None:
        self._storage, self._name, self._times = storage, name, times
        self._owner = uuid.uuid4().hex
        self._beats = 0
        self._seen: bytes | None = None
        self._renewed_at = 0.0

    def take(self) -> None:
        while True:
            content = self._storage.read(self._name)
            if content is not None and self._idle(content) <= self._times.dead:
                time.sleep(self._times.poll)
                continue
            self._write()
            time.sleep(self._times.settle)
            if self._is_mine():
                return

    def renew_until(self, stop: threading.Event) -> None:
        while not stop.wait(self._times.renew):
            try:
                if not self._is_mine():
                    log.warning("%s: another maker took over; the work is done twice", self._name)
                    return
                self._write()
            except BadInput as error:  # the storage may be back the next time
                log.warning("%s: not renewed: %s", self._name, error)

    def release(self) -> None:
        try:
            if self._is_mine():
                self._storage.delete(self._name)
        except BadInput as error:  # what it guarded is done; the lease dies by itself
            log.warning("%s: not released: %s", self._name, error)

    def _write(self) -> None:
        self._beats += 1
        holder = {"owner": self._owner, "host": socket.gethostname(), "pid": os.getpid(), "beat": self._beats}
        self._storage.write(self._name, json.dumps(holder).encode())

    def _is_mine(self) -> bool:
        content = self._storage.read(self._name)
        return content is not None and _holder(content).get("owner") == self._owner

    def _idle(self, content: bytes) -> float:
        """Return the seconds since another's lease was renewed, without comparing the clocks of machines."""
        if content != self._seen:
            if self._seen is None:
                log.info(
                    "%s is being made on %s; waiting", self._name, _holder(content).get("host", "a node")
                )
            self._seen = content
            self._renewed_at = time.monotonic() - self._age()
        return time.monotonic() - self._renewed_at

    def _age(self) -> float:
        """Return the age of the lease in seconds by the clock of the storage; 0 if that has no times.

        The lease is compared with a probe that is written now.
        """
        written = self._storage.modified(self._name)
        probe = f"{self._name}.{self._owner}.probe"
        self._storage.write(probe, b"now")
        now = self._storage.modified(probe)
        self._storage.delete(probe)
        return 0.0 if written is None or now is None else max(0.0, now - written)


def _holder(content: bytes) -> dict[str, object]:
    """Return what a lease says; nothing if it is seen half written."""
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
