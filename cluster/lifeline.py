"""Notices that Ray has died, whose calls then wait for minutes or for ever, and ends the work in a line."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from subprocess import Popen
from types import FrameType, TracebackType
from typing import Any

AGAIN_SECONDS = 10.0
"""What is raised once may get lost, in a destructor or in a callback of Ray; enough to clean up."""
HARD_SECONDS = 40.0
"""A call to a server that is gone waits in C++ for up to a minute, and then Ray ends the process itself."""
ASK_SECONDS = 5.0
SILENT_SECONDS = 45.0
INTERRUPTED = 130
ASKED = (0, -signal.SIGTERM, -signal.SIGHUP)
"""How a server ends that was told to."""
ASKED_WORDS = (
    "was asked to end, as by a signal to every process of a job; finishing takes one to this command alone "
    "(systemd: KillMode=mixed)"
)

by_force: list[Callable[[int], Any]] = []
"""How a command ends at once with a status; in a library's user's process nothing may."""

log = logging.getLogger(__name__)

Servers = Mapping[str, Popen[bytes]]


class RayDied(KeyboardInterrupt):
    """Ray is gone: what has begun is lost, what was finished is kept. Ends a command like an interruption."""


class Lifeline:
    """Around all that uses Ray, in the main thread; in another one nothing can be interrupted: it only logs.

    Args:
        servers: processes of a local Ray by what they are called; the end of any of them is Ray's.
        ask: asks a cluster whether this machine still belongs to it, over and over. None: nobody is asked.
        hush: called at once when Ray is gone, before it has said so itself, at length.

    Raises:
        RayDied: in place of whatever is raised after Ray has died; names what has died.
    """

    def __init__(
        self, servers: Servers, ask: Callable[[], bool] | None = None, *, hush: Callable[[], None]
    ) -> None:
        self._servers, self._ask, self._hush = servers, ask, hush
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._answered = time.monotonic()
        self._before: Any = None
        self._main = threading.current_thread() is threading.main_thread()
        self._inside = False
        self.gone: str | None = None

    def __enter__(self) -> Lifeline:
        if self._main:
            self._before = signal.signal(signal.SIGUSR2, self._raise)
        for name, process in self._servers.items():
            self._start(self._wait_for, name, process)
        if self._ask:
            self._start(self._keep_asking, self._ask)
            self._start(self._listen)
        self._inside = True  # raised before, nobody would leave; it is sent again
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside = False
        with self._lock:  # from here on nobody sends a signal
            self._over.set()
        if self._main:
            signal.pthread_sigmask(signal.SIG_BLOCK, ())  # what was sent has arrived when this returns
            signal.signal(signal.SIGUSR2, self._before)
        if self.gone and error is not None:
            raise RayDied(self.gone) from None

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        threading.Thread(target=work, args=arguments, daemon=True, name="theriac-lifeline").start()

    def _wait_for(self, name: str, process: Popen[bytes]) -> None:
        asked = process.wait() in ASKED
        how = ASKED_WORDS if asked else "has died (killed, by hand or for lack of memory)"
        self._lost(f"Ray's {name} on this machine {how}")

    def _keep_asking(self, ask: Callable[[], bool]) -> None:
        while not self._over.wait(ASK_SECONDS):
            with suppress(Exception):  # no answer: `_listen` counts
                belongs = ask()
                self._answered = time.monotonic()
                if not belongs:
                    self._lost("this machine has left the Ray cluster: its raylet has died")

    def _listen(self) -> None:
        while not self._over.wait(ASK_SECONDS):
            silent = time.monotonic() - self._answered
            if silent > SILENT_SECONDS:
                self._lost(f"the head of the Ray cluster has not answered for {silent:.0f} s")
                return

    def _lost(self, what: str) -> None:
        with self._lock:
            if self.gone or self._over.is_set():
                return
            self.gone = f"{what}; finished cells are kept: run the same command again to go on"
        self._hush()
        if not self._main:
            log.error(self.gone)
            return
        deadline = time.monotonic() + HARD_SECONDS
        while self._interrupt() and time.monotonic() < deadline:
            self._over.wait(AGAIN_SECONDS)
        if not self._over.is_set():
            log.error(self.gone)  # nobody else can say it any more
            for leave in by_force:
                leave(INTERRUPTED)

    def _interrupt(self) -> bool:
        """Interrupt the main thread, unless its work is over."""
        with self._lock:
            if not self._over.is_set():
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
            return not self._over.is_set()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        leaving = frame is not None and frame.f_code is Lifeline.__exit__.__code__  # it must come to its end
        if self.gone and self._inside and not leaving:
            raise RayDied(self.gone)
