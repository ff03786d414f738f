"""How a sweep goes on: asked of its actors every second, shown, and written for `theriac status`."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import ray
from ray.exceptions import GetTimeoutError, RayError

from ..rows import Row
from ..search.report import SWEEPS, Running, SweepProgress, estimate_left, process_table
from ..search.store import ResultsStore, compact
from ..search.sweep import SearchJob, Sweep, Task, Ticket, UntreatedJob
from .actors import Phase
from .conductor import Conductor, describe
from .fleet import Member

SECONDS = 1.0
COMPACT_SECONDS = 60.0
ASKED_SECONDS = 0.5

log = logging.getLogger(__name__)

State = Literal["running", "finishing", "finished", "interrupted"]


class Reporter(Protocol):
    """What wants to know how the work goes on."""

    def say(self, line: str) -> None:
        """Say that something happened."""

    def show(self, progress: SweepProgress) -> None:
        """Show how the sweep stands."""


class Silent:
    """A reporter that shows nothing."""

    def say(self, line: str) -> None:
        """Say nothing."""

    def show(self, progress: SweepProgress) -> None:
        """Show nothing."""


class Watch:
    """Around the fan-out: a thread that looks, shows, writes, and merges small files of results.

    Nothing it does can make the sweep fail.

    Args:
        conductor: of the sweep.
        sweep: what is computed.
        run: key of the row in `runs`.
        directory: of the results.
        tasks: all cells of the sweep.
        missing: those to compute now.
        measured: rows of finished cells, of this and of earlier runs; it grows.
        reporter: is shown how the sweep stands.
    """

    def __init__(
        self,
        conductor: Conductor,
        sweep: Sweep,
        run: str,
        *,
        directory: Path,
        tasks: Sequence[Task],
        missing: Sequence[Task],
        measured: Sequence[Row],
        reporter: Reporter,
    ) -> None:
        self._conductor, self._reporter, self._directory = conductor, reporter, directory
        self._file = directory / SWEEPS / f"{sweep.key}.json"
        self._fixed: dict[str, Any] = {
            "name": sweep.name,
            "sweep": sweep.key,
            "run": run,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "processes": process_table(),
            "started_at": datetime.now(UTC),
            "cells_total": len(tasks),
            "cells_present": len(tasks) - len(missing),
        }
        self._begun = self._compacted = time.monotonic()
        self._measured = measured
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="theriac-watch")

    def __enter__(self) -> Watch:
        self._publish("running")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=10 * SECONDS)
        self._publish("interrupted" if error is not None or self._conductor.left else "finished")

    def _look(self) -> None:
        while not self._over.wait(SECONDS):
            try:
                self._publish("finishing" if self._conductor.schedule.draining else "running")
                if time.monotonic() - self._compacted > COMPACT_SECONDS:
                    self._compacted = time.monotonic()
                    compact(ResultsStore(self._directory, create=False))
            except Exception as error:  # the disk may be full, an actor on its way to be restarted
                log.warning("the progress of the sweep is not up to date: %s", error)

    def _publish(self, state: State) -> None:
        progress = self._progress(state)
        self._reporter.show(progress)
        try:
            progress.write(self._file)
        except OSError as error:
            log.warning("cannot write %s: %s", self._file, error)

    def _progress(self, state: State) -> SweepProgress:
        conductor, counts = self._conductor, self._conductor.schedule.counts
        running = () if state in ("finished", "interrupted") else tuple(self._running())
        return SweepProgress(
            **self._fixed,
            updated_at=datetime.now(UTC),
            state=state,
            workers=len(conductor.fleet.members),
            cells_done=conductor.done,
            cells_failed=conductor.failed,
            configurations=counts.settings,
            seconds=time.monotonic() - self._begun,
            left_seconds=self._left(),
            running=running,
            lost_workers=conductor.fleet.lost,
            retried=counts.retried,
        )

    def _left(self) -> float | None:
        """Estimate the seconds left from all cells measured up to now, also in earlier runs."""
        with self._conductor.lock:
            plans, measured = self._conductor.schedule.plans, list(self._measured)
            to_go = [cell.task for plan in plans for cell in plan.cells if not cell.over]
        return estimate_left(to_go, measured, len(self._conductor.fleet.members))

    def _running(self) -> list[Running]:
        at_work = sorted(self._conductor.at_work(), key=lambda one: one[0].number)
        asked = [member.handle.phase.remote() for member, _ in at_work]
        deadline = time.monotonic() + ASKED_SECONDS
        return [
            _doing(member, ticket, _answer(answer, deadline))
            for (member, ticket), answer in zip(at_work, asked, strict=True)
        ]


def _answer(asked: Any, deadline: float) -> Phase | None:
    try:
        found: Phase | None = ray.get(asked, timeout=max(0.0, deadline - time.monotonic()))
    except (GetTimeoutError, RayError):  # starting, or on its way to be restarted
        return None
    return found


def _doing(member: Member, ticket: Ticket, phase: Phase | None) -> Running:
    job = ticket.job
    cell = job.cell if isinstance(job, SearchJob | UntreatedJob) else None
    name, done, total = phase or (describe(ticket), 0, None)
    scenario = job.scenario
    return Running(
        worker=member.number,
        node=member.address,
        doing=describe(ticket) if name == "starting" else name,
        scenario=f"{scenario.dataset} {scenario.model.name} {scenario.attack.name} "
        f"|S_m| {scenario.manipulated} seed {scenario.seed}",
        method=cell.method if cell else None,
        share=cell.share_name if cell else None,
        done=done,
        total=total,
    )
