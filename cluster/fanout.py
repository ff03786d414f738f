"""Hand jobs to actors, one at a time each, and take results as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from .workers import Phase

POLL_SECONDS = 0.25

Job = Callable[[Any], Any]
"""Gets an actor's handle and returns the reference of a remote call."""


class WorkerDied(RuntimeError):
    """The process of an actor ended more often than Ray may restart it, or could not begin."""


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


class Pool:
    """Actors that take one job at a time.

    Ray restarts an actor that dies and asks it again, as often as the actor's options say. One that is dead
    for good costs the job it had; a new one takes its place, so that it cannot take other jobs with it.

    Args:
        spawn: starts an actor; it has a method ``phase`` if a reporter watches.
        size: number of actors.
    """

    def __init__(self, spawn: Callable[[], Any], size: int) -> None:
        self._spawn = spawn
        self._actors = [spawn() for _ in range(size)]

    def run(self, jobs: Sequence[Job], title: str, reporter: Reporter) -> Iterator[tuple[int, Any]]:
        """Run every job on some actor; yields (number of the job, result) in the order of completion.

        A job that raised, or whose actor died for good, yields the exception.
        """
        waiting, idle = deque(enumerate(jobs)), deque(range(len(self._actors)))
        running: dict[Any, tuple[int, int]] = {}
        reporter.begin(title, len(jobs))
        while waiting or running:
            while waiting and idle:
                (number, job), worker = waiting.popleft(), idle.popleft()
                running[job(self._actors[worker])] = (number, worker)
            for reference in ray.wait(list(running), timeout=POLL_SECONDS)[0]:
                number, worker = running.pop(reference)
                result = self._result(reference, worker)
                idle.append(worker)
                reporter.working(worker, None)
                reporter.finished(len(jobs) - len(waiting) - len(running))
                yield number, result
            self._report([worker for _, worker in running.values()], reporter)

    def _result(self, reference: Any, worker: int) -> Any:
        try:
            return ray.get(reference)
        except RayTaskError as error:
            return error.cause
        except RayActorError as error:
            ray.kill(self._actors[worker])  # one that is only out of reach would keep its CPU
            self._actors[worker] = self._spawn()
            return _died(error)
        except RayError as error:
            return error

    def _report(self, workers: Sequence[int], reporter: Reporter) -> None:
        if isinstance(reporter, Silent):
            return
        for worker in workers:
            try:
                phase = ray.get(self._actors[worker].phase.remote(), timeout=POLL_SECONDS)
            except (GetTimeoutError, RayError):
                continue  # starting, or on its way to be restarted
            reporter.working(worker, phase)


def _died(error: RayActorError) -> WorkerDied:
    """Ray's page of text in a line; its last line names what an actor raised when it started."""
    reason = "was killed, by hand or for lack of memory"
    if "creation task" in str(error):
        reason = f"could not start: {str(error).strip().splitlines()[-1].strip()}"
    died = WorkerDied(
        f"a worker process {reason}; run the same command again, with fewer workers where memory is short"
    )
    died.__cause__ = error
    return died
