"""Ctrl-C once: what has begun comes to its end. Twice: everything stops."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the command line imports this module before it knows what it is asked for
    from .conductor import Conductor
    from .watch import Reporter

FIRST = "finishing what has begun; Ctrl-C again stops at once (finished cells are kept in any case)"


def heed_termination() -> None:
    """Make SIGTERM and SIGHUP interrupt this process as Ctrl-C does, at whatever it is."""
    for one in _asking_to_end():
        signal.signal(one, signal.default_int_handler)


def _asking_to_end() -> tuple[signal.Signals, ...]:
    """Return the signals that mean Ctrl-C: `nohup` has SIGHUP ignored, and is heeded."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM,) if ignored else (signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Around the fan-out, in the main thread; elsewhere signals are left as they are.

    SIGTERM counts as Ctrl-C: schedulers of clusters send it some time before they kill. So does SIGHUP, which
    comes when a terminal is closed, unless the command was started with `nohup`, which has it ignored.

    Raises:
        KeyboardInterrupt: at the second signal at once, after one when what had begun is done.
    """

    def __init__(self, conductor: Conductor, reporter: Reporter) -> None:
        self._conductor, self._reporter = conductor, reporter
        self._before: dict[int, Any] = {}
        self._count = 0

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            heard = (signal.SIGINT, *_asking_to_end())
            self._before = {one: signal.signal(one, self._handle) for one in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one, before in self._before.items():
            signal.signal(one, before)
        if error is None and self._conductor.left:  # also Tune ends on a signal of its own: SIGUSR1
            raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count > 1:
            raise KeyboardInterrupt
        # the interrupted code may hold the conductor's lock, in this very thread: it is reentrant
        self._conductor.drain()
        self._reporter.say(FIRST)
