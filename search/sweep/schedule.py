"""The state machine of a whole sweep, without a clock, process or device: which worker does what next.

Hand it to whatever runs jobs: ask `Schedule.next` when a worker is idle, tell `Schedule.done` what came back.
Every order of arrival leads to the same rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

from .files import Task
from .jobs import Answer, Failure, Job, SearchJob, TrainJob
from .open_search import Block
from .scenario_progress import CellPlan, Rank, ScenarioPlan, Step

MOST_ATTEMPTS = 3
BLOCK_SECONDS = 1.0
FEWEST, FIRST, MOST = 8, 16, 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Ticket:
    """A job that a worker has.

    Attributes:
        number: of the ticket, from 0.
        worker: who has it.
        job: what to do.
        cell: whose search it belongs to; None for a job of the scenario.
        block: of the search.
        step: of the scenario.
    """

    number: int
    worker: int
    job: Job
    plan: ScenarioPlan
    cell: CellPlan | None = None
    block: Block | None = None
    step: Step | None = None


@dataclass(frozen=True, kw_only=True)
class Done:
    """A cell that is over: its rows can be collected from the worker, or it failed."""

    task: Task
    failure: Failure | None = None


@dataclass
class Counts:
    """What a sweep did up to now.

    Attributes:
        jobs: answered, by sort.
        settings: evaluated, of searches.
        search_jobs: that evaluated any.
        retried: jobs given out again because their worker died.
        busy: seconds that workers spent on jobs.
    """

    jobs: Counter[str] = field(default_factory=Counter)
    settings: int = 0
    search_jobs: int = 0
    retried: int = 0
    busy: float = 0.0


class Schedule:
    """The jobs of a sweep, in an order that keeps workers busy and brings first results early.

    Scenarios come in the order of the tasks. A worker gets a job of the first scenario that has one; of its
    jobs the training of the victim or the clean model first, then a search (rather one that this worker has
    begun, or whose importances it holds), then importances that other searches need, then retraining. Half of
    the workers train for the next scenario meanwhile. Only if no scenario has anything else is a setting
    evaluated that a search may not come to.

    Args:
        tasks: the cells to compute, no two of one key.
        reference: train the clean model that `healed` is measured against.
        workers: how many there may be; bounds speculation.
        block_seconds: how long a block of settings should take; settings per block follow from what earlier
            ones took, from 8 to 512. A setting that is a training is a block of its own.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        reference: bool = True,
        workers: int = 1,
        block_seconds: float = BLOCK_SECONDS,
    ) -> None:
        self.workers, self.block_seconds = workers, block_seconds
        self.plans = [ScenarioPlan(group, reference=reference) for group in _by_scenario(tasks)]
        self.counts = Counts()
        self.out: dict[int, Ticket] = {}
        self.draining = False
        self._numbers = count()

    @property
    def finished(self) -> bool:
        """Tell whether nothing is left to do; after `drain`, of what was begun."""
        if self.out:
            return False
        left = [cell for plan in self.plans for cell in plan.cells if not cell.over]
        return not (self.open_cells if self.draining else left)

    @property
    def open_cells(self) -> list[CellPlan]:
        """Return the cells whose search `drain` lets go on: it has begun and is not over."""
        return [cell for plan in self.plans for cell in plan.cells if not cell.over and cell.goes_on]

    def drain(self) -> None:
        """Begin nothing new: only searches that have begun go on, to their ends.

        Not those whose settings are trainings: they take long, and what is trained is kept.
        """
        self.draining = True

    def next(self, worker: int) -> Ticket | None:
        """Return a job for an idle worker; None: nothing can be done at the moment."""
        plans = [plan for plan in self.plans if not plan.over]
        ticket = self._ahead(plans, worker)
        for plan in plans:
            ticket = ticket or self._of_plan(plan, worker)
        for plan in plans:
            ticket = ticket or self._speculation(plan, worker)
        return ticket

    def done(self, number: int, answer: Answer) -> list[Done]:
        """Take an answer; return the cells that are over by it.

        Args:
            number: of the ticket.
            answer: of its worker.
        """
        ticket = self.out.pop(number)
        self.counts.jobs[ticket.job.sort] += 1
        self.counts.busy += answer.seconds
        if ticket.step:
            failed = ticket.plan.step_done(ticket.step, answer)
            return [Done(task=cell.task, failure=failure) for cell, failure in failed]
        return self._cell_done(ticket, answer)

    def lost(self, number: int, failure: Failure) -> list[Done]:
        """Give out a job again whose worker died with it, but not for ever.

        Args:
            number: of the ticket.
            failure: how the worker died.
        """
        ticket = self.out[number]
        if _attempts(ticket) >= MOST_ATTEMPTS:
            return self.done(number, Answer(failure=failure))
        del self.out[number]
        self.counts.retried += 1
        if ticket.step:
            ticket.step.given = False
        if ticket.cell and ticket.block and ticket.cell.search:
            ticket.cell.search.give_back(ticket.block)
        elif ticket.cell:
            ticket.cell.given = False
        return []

    def forget(self, worker: int) -> None:
        """Note that the worker holds nothing any more."""
        for plan in self.plans:
            plan.forget(worker)

    def _of_plan(self, plan: ScenarioPlan, worker: int) -> Ticket | None:
        return (
            self._step(plan, worker, "first")
            or self._cell(plan, worker)
            or self._step(plan, worker, "middle")
            or self._step(plan, worker, "last")
        )

    def _ahead(self, plans: Sequence[ScenarioPlan], worker: int) -> Ticket | None:
        """Return a training of the scenario after the first unfinished one, for half of the workers.

        They take long and nothing of that scenario can begin without them.
        """
        if len(plans) < 2 or plans[0].ready_step("first"):
            return None
        trainings = sum(isinstance(ticket.job, TrainJob) for ticket in self.out.values())
        return self._step(plans[1], worker, "first") if trainings < self.workers // 2 else None

    def _step(self, plan: ScenarioPlan, worker: int, rank: Rank) -> Ticket | None:
        step = None if self.draining else plan.ready_step(rank)
        if step is None:
            return None
        step.given = True
        return self._give(worker, step.job, plan, step=step)

    def _cell(self, plan: ScenarioPlan, worker: int) -> Ticket | None:
        for cell in plan.candidates(worker):
            if self.draining and not cell.goes_on:
                continue
            ticket = self._open(plan, cell, worker)
            if ticket:
                return ticket
        return None

    def _speculation(self, plan: ScenarioPlan, worker: int) -> Ticket | None:
        for cell in plan.candidates(worker):
            if self.draining and not cell.goes_on:
                continue
            if cell.search and cell.search.begun and cell.search.out < self.workers:
                ticket = self._block(plan, cell, worker, speculate=True)
                if ticket:
                    return ticket
        return None

    def _open(self, plan: ScenarioPlan, cell: CellPlan, worker: int) -> Ticket | None:
        if cell.search is not None:
            return self._block(plan, cell, worker)
        if cell.given:
            return None
        cell.given = True
        return self._give(worker, plan.untreated_job(cell), plan, cell=cell)

    def _block(
        self, plan: ScenarioPlan, cell: CellPlan, worker: int, *, speculate: bool = False
    ) -> Ticket | None:
        assert cell.search is not None
        block = cell.search.next_block(self._count(plan, cell), speculate=speculate)
        if block is None:
            return None
        if block.alone:
            plan.at_home(cell, worker)
        job = SearchJob(
            scenario=plan.scenario,
            cell=cell.task.cell,
            history=block.history,
            skip=block.skip,
            count=block.count,
            finish=block.alone,
            seconds=cell.search.seconds,
        )
        return self._give(worker, job, plan, cell=cell, block=block)

    def _count(self, plan: ScenarioPlan, cell: CellPlan) -> int:
        if cell.trains:
            return 1
        seconds = plan.seconds_per_setting(cell)
        if not seconds:
            return FIRST
        return max(FEWEST, min(MOST, int(self.block_seconds / seconds)))

    def _give(self, worker: int, job: Job, plan: ScenarioPlan, **of: object) -> Ticket:
        ticket = Ticket(number=next(self._numbers), worker=worker, job=job, plan=plan, **of)  # type: ignore[arg-type]
        self.out[ticket.number] = ticket
        return ticket

    def _cell_done(self, ticket: Ticket, answer: Answer) -> list[Done]:
        cell, block = ticket.cell, ticket.block
        assert cell is not None
        if cell.over:  # a block that was given out in vain
            return []
        if answer.failure and block and block.skip and cell.search:
            cell.search.give_back(block, failed=True)
            return []
        self.counts.settings += len(answer.evaluated)
        self.counts.search_jobs += bool(answer.evaluated)
        if answer.failure is None and block and cell.search and answer.start:
            cell.search.take(block, answer.start, answer.evaluated, answer.search_seconds)
            ticket.plan.measured(cell, len(answer.evaluated), answer.search_seconds)
            if not block.skip:
                cell.attempts = 0  # the search got further
        if answer.failure is None and not answer.finished:
            return []
        ticket.plan.end(cell)
        return [Done(task=cell.task, failure=answer.failure)]


def _attempts(ticket: Ticket) -> int:
    """Count how many workers died with this, now that another one did.

    Those that went ahead of a search count apart: its answer may not need what they did, and a node that dies
    takes several of them.
    """
    if ticket.cell and ticket.block and ticket.block.skip:
        ticket.cell.attempts_ahead += 1
        return ticket.cell.attempts_ahead
    home = ticket.step or ticket.cell
    assert home is not None
    home.attempts += 1
    return home.attempts


def _by_scenario(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    groups: dict[str, list[Task]] = {}
    for task in tasks:
        groups.setdefault(task.scenario.model_dump_json(), []).append(task)
    yield from groups.values()
