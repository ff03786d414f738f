"""Between Ray Tune, the schedule of a sweep and its actors: gives out jobs, takes answers, records rows."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from ..errors import BadInput
from ..search.sweep import (
    Answer,
    CellRows,
    Done,
    Failure,
    ImportanceJob,
    Schedule,
    SearchJob,
    Task,
    Ticket,
    TrainJob,
    UntreatedJob,
    failed_row,
)
from .fleet import Fleet, Member
from .names import ANSWER, CONFIG_ACTOR, CONFIG_JOB, LOST

GROW_SECONDS = 10.0

log = logging.getLogger(__name__)

Record = Callable[[Task, CellRows], None]
Config = dict[str, Any]


class Stopped(Exception):
    """The sweep cannot go on; the cause says why."""


class Conductor:
    """Runs a schedule on a fleet, one job at a time for each worker.

    Its methods may be called from several threads.

    Args:
        schedule: what to do.
        fleet: who does it.
        record: is given the rows of every cell as soon as they are there.
    """

    def __init__(self, schedule: Schedule, fleet: Fleet, record: Record) -> None:
        self.schedule, self.fleet, self._record = schedule, fleet, record
        self.lock = threading.RLock()
        self.error: BaseException | None = None
        self.done = self.failed = 0
        self.begun = self.ended = time.monotonic()
        self._idle = dict.fromkeys(fleet.members)
        self._tickets: dict[str, Ticket] = {}
        self._warned: set[str] = set()
        self._grown = time.monotonic()

    @property
    def finished(self) -> bool:
        """Tell whether no further job will be given out."""
        with self.lock:
            return self.error is not None or self.schedule.finished

    @property
    def left(self) -> int:
        """Count the cells that are not over."""
        return sum(not cell.over for plan in self.schedule.plans for cell in plan.cells)

    def drain(self) -> None:
        """Let what has begun come to its end, and begin nothing new."""
        with self.lock:
            self.schedule.drain()

    def at_work(self) -> list[tuple[Member, Ticket]]:
        """List the workers that have a job, and it."""
        with self.lock:
            tickets = list(self._tickets.values())
            return [
                (self.fleet.members[one.worker], one) for one in tickets if one.worker in self.fleet.members
            ]

    def suggest(self, trial: str) -> Config | None:
        """Return a job for a trial: the actor's name and the job as JSON; None: none at the moment."""
        with self.lock:
            self._look_for_nodes()
            for worker in list(self._idle):
                ticket = self.schedule.next(worker)
                if ticket:
                    return self._given(trial, ticket)
            self._check_alive()
            return None

    def completed(self, trial: str, result: Config | None) -> None:
        """Note that a trial is over; ``result`` is None or empty if its process died again and again."""
        with self.lock:
            ticket = self._tickets.pop(trial)
            self.ended = time.monotonic()
            found = result or {}
            if ANSWER not in found:
                self._lost(ticket, found.get(LOST, "the process of a trial died again and again"))
                return
            self._idle[ticket.worker] = None
            try:
                self._answered(ticket, Answer.model_validate_json(found[ANSWER]))
            except Exception as error:  # Tune would bury it; the sweep ends with it
                self.error = error

    def _given(self, trial: str, ticket: Ticket) -> Config:
        del self._idle[ticket.worker]
        if not ticket.number:
            self.begun = time.monotonic()
        self._tickets[trial] = ticket
        member = self.fleet.members[ticket.worker]
        return {CONFIG_ACTOR: member.name, CONFIG_JOB: ticket.job.model_dump_json()}

    def _answered(self, ticket: Ticket, answer: Answer) -> None:
        for warning in answer.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                log.warning("%s", warning)
        failure = answer.failure
        if failure and (failure.fatal or (failure.bad_input and isinstance(ticket.job, TrainJob))):
            raise BadInput(failure.message)  # nothing of the scenario can be done; the user can help
        rows = self._collected(ticket) if answer.finished else None
        if answer.finished and rows is None:
            self._settle(self.schedule.lost(ticket.number, _restarted()), None)
            return
        self._settle(self.schedule.done(ticket.number, answer), rows)

    def _collected(self, ticket: Ticket) -> CellRows | None:
        """Return the rows of the cell that a job finished; None if the actor has lost them."""
        assert isinstance(ticket.job, SearchJob | UntreatedJob)
        key = Task(scenario=ticket.job.scenario, cell=ticket.job.cell).key
        try:
            return ray.get(self.fleet.members[ticket.worker].handle.collect.remote(key))  # type: ignore[no-any-return]
        except (KeyError, RayError) as error:
            log.info("the rows of a finished cell were lost: %s", error)
            return None

    def _settle(self, over: list[Done], rows: CellRows | None) -> None:
        for done in over:
            failure = done.failure
            if failure:
                task = done.task
                found = failed_row(task.scenario, task.cell, failure.error_class, failure.message)
                self._record(task, CellRows(search=found, steps=[]))
            elif rows:
                self._record(done.task, rows)
            self.done += 1
            self.failed += bool(failure) or (rows is not None and rows.search["status"] == "gate_failed")

    def _lost(self, ticket: Ticket, reason: str) -> None:
        """Give up an actor that is gone for good: others, or new ones, do its work."""
        log.warning("%s; its work is done again", reason)
        self.schedule.forget(ticket.worker)
        if ticket.worker in self.fleet.members:
            self.fleet.drop(ticket.worker)
        self._add(self.fleet.grow())
        failure = Failure(
            error_class="WorkerDied",
            message=f"{reason}; run the same command again, with fewer workers where memory is short",
        )
        try:
            self._settle(self.schedule.lost(ticket.number, failure), None)
        except Exception as error:  # the failure may not have been written
            self.error = error

    def _look_for_nodes(self) -> None:
        if time.monotonic() - self._grown > GROW_SECONDS:
            self._grown = time.monotonic()
            self._add(self.fleet.grow())
            self.schedule.workers = len(self.fleet.members)

    def _add(self, members: list[Member]) -> None:
        for member in members:
            self._idle[member.number] = None

    def _check_alive(self) -> None:
        if not self.fleet.members:
            self.error = BadInput(
                "no workers are left: all their nodes are gone; finished cells are kept: repair the cluster "
                "and run the same command again"
            )
        elif not self._tickets and self._idle and not self.schedule.finished:
            self.error = RuntimeError("nothing can be done, but the sweep is not over: a fault of theriac")


def _restarted() -> Failure:
    return Failure(
        error_class="WorkerDied", message="a worker was restarted before its result was read, several times"
    )


def describe(ticket: Ticket) -> str:
    """Say what a job is about, in a word or two."""
    job = ticket.job
    if isinstance(job, TrainJob):
        return f"training {job.part.name}"
    if isinstance(job, ImportanceJob):
        return "importances"
    return "search" if isinstance(job, SearchJob) else "scoring"
