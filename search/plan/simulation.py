"""How long a sweep takes with so many workers: its real schedule, played through with made-up workers.

The model. A driver gives out one job after another, each takes it `OVERHEAD` seconds (Ray Tune runs in one
thread); a worker does one job at a time, and a job takes what its parts cost (`plan_costs`). A worker loads a
dataset, a victim, a problem once and keeps it. Pieces of S_m are computed by the first worker that needs
them; another that needs them meanwhile waits. Every PTN search stops where it is expected to, a grid tries
all its pairs, every victim passes its gate. Workers do not slow each other down.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from ..sweep import Answer, Schedule, Scoring, Task, Ticket
from .costs import Costs
from .work import SimulatedWork

OVERHEAD = 0.025
"""Seconds of the driver for each job: Tune with reused trials, measured: 0.018 to 0.028."""
START_SECONDS = 8.0
"""From the command to the first job, on a local Ray."""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A sweep as it would go; all times in seconds.

    Attributes:
        workers: how many.
        makespan: from the command to the last row.
        first_result: from the command to the first row; None without any.
        busy: of each worker, the share of the time after the start in which it had a job, in [0, 1].
        worker_seconds: of all jobs together, waiting for each other's pieces included.
        phases: part of the work -> its share of ``worker_seconds``.
        driver_seconds: of giving out jobs.
        jobs: done, by sort.
        cells: that got rows.
        settings: evaluated, wasted ones included.
    """

    workers: int
    makespan: float
    first_result: float | None
    busy: tuple[float, ...]
    worker_seconds: float
    phases: dict[str, float]
    driver_seconds: float
    jobs: dict[str, int]
    cells: int
    settings: int


def simulate(
    tasks: Sequence[Task],
    costs: Costs,
    workers: int,
    *,
    reference: bool,
    overhead: float = OVERHEAD,
    start_seconds: float = START_SECONDS,
    finished: Sequence[Task] = (),
    scored_steps: int = 0,
) -> Simulated:
    """Play a sweep through.

    Args:
        tasks: the cells to compute.
        costs: of every sort of scenario among them.
        workers: how many, at least 1.
        reference: whether the clean model is trained.
        overhead: seconds of the driver for each job.
        start_seconds: from the command to the first job.
        finished: cells whose models and importances are in the store.
        scored_steps: see `Scoring.steps`.

    Raises:
        ValueError: no worker.
    """
    if workers < 1:
        raise ValueError(f"{workers} workers: there must be at least one")
    schedule = Schedule(tasks, reference=reference, workers=workers)
    work = SimulatedWork(costs, finished, Scoring(steps=scored_steps, reference=reference))
    return _Play(schedule, work, workers, overhead, start_seconds).run()


class _Play:
    """The events of one simulation."""

    def __init__(
        self, schedule: Schedule, work: SimulatedWork, workers: int, overhead: float, start: float
    ) -> None:
        self.schedule, self.work, self.overhead, self.start = schedule, work, overhead, start
        self.idle = list(range(workers))
        self.driver = start
        self.busy = [0.0] * workers
        self.coming: list[tuple[float, int, Ticket, Answer]] = []
        self.phases: dict[str, float] = {}
        self.cells, self.first = 0, None if schedule.plans else start

    def run(self) -> Simulated:
        now = self.start
        self._give_out(now)
        while self.coming:
            now, _, ticket, answer = heapq.heappop(self.coming)
            over = self.schedule.done(ticket.number, answer)
            if over and self.first is None:
                self.first = now
            self.cells += len(over)
            self.idle.append(ticket.worker)
            self._give_out(now)
        return self._result(now)

    def _give_out(self, now: float) -> None:
        while self.idle:
            ticket = self.schedule.next(self.idle[0])
            if ticket is None:  # what there is to do does not depend on who asks, only its order does
                return
            self.idle.pop(0)
            self.driver = max(now, self.driver) + self.overhead
            done = self.work.do(ticket, self.driver)
            self.busy[ticket.worker] += done.seconds
            for phase, seconds in done.phases.items():
                self.phases[phase] = self.phases.get(phase, 0.0) + seconds
            heapq.heappush(self.coming, (self.driver + done.seconds, ticket.number, ticket, done.answer))

    def _result(self, now: float) -> Simulated:
        length, counts = now - self.start, self.schedule.counts
        jobs = dict(sorted(counts.jobs.items()))
        return Simulated(
            workers=len(self.busy),
            makespan=now,
            first_result=self.first,
            busy=tuple(seconds / length if length else 0.0 for seconds in self.busy),
            worker_seconds=sum(self.busy),
            phases=dict(sorted(self.phases.items())),
            driver_seconds=self.overhead * sum(jobs.values()),
            jobs=jobs,
            cells=self.cells,
            settings=counts.settings,
        )
