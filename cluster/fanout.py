"""Hand jobs to actors, one at a time each, and take results as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

from .workers import Phase

POLL_SECONDS = 0.25

Job = Callable[[Any], Any]


class Reporter(Protocol):
    """What wants to know how the work goes on."""

    def begin(self, title: str, total: int) -> None:
        """A group of ``total`` jobs begins."""

    def finished(self, done: int) -> None:
        """``done`` jobs of the group are over."""

    def working(self, worker: int, phase: Phase | None) -> None:
        """What a worker is doing; None: nothing."""


class Silent:
    """A reporter that shows nothing."""

    def begin(self, title: str, total: int) -> None:
        """Nothing."""

    def finished(self, done: int) -> None:
        """Nothing."""

    def working(self, worker: int, phase: Phase | None) -> None:
        """Nothing."""


def fan_out(
    actors: Sequence[Any], jobs: Sequence[Job], title: str, reporter: Reporter
) -> Iterator[tuple[int, Any]]:
    """Run every job on some actor; yields (number of the job, result) in the order of completion.

    A job gets an actor handle and returns the reference of a remote call. An actor that dies is restarted
    by Ray and asked again; a job whose actor died for good, or that raised, yields the exception.
    """
    waiting = list(enumerate(jobs))
    idle = list(range(len(actors)))
    running: dict[Any, tuple[int, int]] = {}
    done = 0
    reporter.begin(title, len(jobs))
    while waiting or running:
        while waiting and idle:
            worker, (number, job) = idle.pop(0), waiting.pop(0)
            running[job(actors[worker])] = (number, worker)
        ready, _ = ray.wait(list(running), timeout=POLL_SECONDS)
        for reference in ready:
            number, worker = running.pop(reference)
            idle.append(worker)
            done += 1
            reporter.working(worker, None)
            reporter.finished(done)
            yield number, _result(reference)
        _report_phases(actors, running, reporter)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        return error.cause
    except RayActorError as error:
        return error


def _report_phases(actors: Sequence[Any], running: dict[Any, tuple[int, int]], reporter: Reporter) -> None:
    if isinstance(reporter, Silent):
        return
    for _, worker in running.values():
        try:
            reporter.working(worker, ray.get(actors[worker].phase.remote(), timeout=POLL_SECONDS))
        except (GetTimeoutError, RayActorError):
            continue
