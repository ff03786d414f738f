"""A world without models: what trainings, importances and searches would give, in no time."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from theriac.datasets.poisoning import discovered_count
from theriac.search.dampening_problem import BoundedEvaluation, Evaluation
from theriac.search.grid.pairs import GridRow
from theriac.search.grid.start import GridStart
from theriac.search.ptn.driver import PTNSearching, row_from, run_ptn
from theriac.search.ptn.start import PTNStart
from theriac.search.sweep.files import Task
from theriac.search.sweep.jobs import (
    Answer,
    Failure,
    ImportanceJob,
    SearchJob,
    TrainJob,
    UntreatedJob,
    read_job,
)
from theriac.search.sweep.schedule import Done, Schedule, Ticket
from theriac.search.sweep.victim_bench import Part
from theriac.search.threshold import crosses

Row = dict[str, Any]
Need = Any


class Broken(Exception):
    """What a fake computation raises."""


@dataclass(frozen=True)
class FakeProblem:
    """A forget accuracy that is any function of the percentile; half of the evaluations are bounds."""

    accuracy: Callable[[float], float]

    def evaluate(self, percentile: float, *, threshold: float | None = None) -> Evaluation:
        accuracy = self.accuracy(percentile)
        chance = random.Random(f"{percentile!r}")
        kind: type[Evaluation] = Evaluation
        if threshold is not None and chance.random() < 0.5:
            kind, accuracy = BoundedEvaluation, _bound(accuracy, threshold)
        return kind(alpha=percentile / 3, dampened=chance.randrange(1000), forget_accuracy=accuracy)


def _bound(accuracy: float, threshold: float) -> float:
    middle = (accuracy + threshold) / 2
    return middle if crosses(middle, threshold) == crosses(accuracy, threshold) else accuracy


def accuracies(sort: str, seed: str) -> Callable[[float], float]:
    """Forget accuracy by percentile: 95.4 and 90.8 are where s is 1 and 100."""

    def jumping(percentile: float, share: float) -> float:
        chance = random.Random(f"{seed}{percentile!r}")
        crosses = chance.random() < share
        return chance.uniform(0, 0.1) if crosses else chance.uniform(0.5, 1)

    def breaking(percentile: float) -> float:
        if random.Random(f"broken{seed}{percentile!r}").random() < 0.1:
            raise Broken(f"no luck at {percentile!r}")
        return 1.0 if percentile > 95.4 else 0.0

    return {
        "falls early": lambda percentile: 1.0 if percentile > 99 else 0.0,
        "falls late": lambda percentile: 0.9 if percentile > 93 else 0.15,
        "never": lambda percentile: 1.0,
        "at once": lambda percentile: 0.9 if percentile > 100 - 1e-7 else 0.1,
        "always": lambda percentile: 0.0,
        "jumps": lambda percentile: jumping(percentile, 0.05),
        "jumps back": lambda percentile: jumping(percentile, 0.8),
        "breaks": breaking,
    }[sort]


@dataclass
class World:
    """Does jobs, and remembers what it did.

    Attributes:
        sorts: key of a task -> a sort of `accuracies`.
        train_count: |S_tr| of all scenarios.
        gate_failed: keys of scenarios whose victim fails.
        broken: (key of a scenario, part of it) that cannot be made.
        done: how often every training and importance was made.
    """

    sorts: dict[str, str]
    train_count: int = 1000
    gate_failed: frozenset[str] = frozenset()
    broken: frozenset[tuple[str, Need]] = frozenset()
    done: Counter[tuple[str, Need]] = field(default_factory=Counter)

    def answer(self, text: str) -> Answer:
        """What a worker would answer to the job with this JSON, which is all that it knows."""
        job = read_job(text)
        try:
            if isinstance(job, TrainJob):
                return self._made(job.scenario.key, job.part, Part("victim"))
            if isinstance(job, ImportanceJob):
                return self._made(job.scenario.key, job.part, None)
            if isinstance(job, UntreatedJob):
                self._check_untreated(job)
                return Answer(finished=True, seconds=1.0)
            return self._searched(job)
        except Broken as error:
            return Answer(failure=Failure(error_class="Broken", message=str(error)))

    def _made(self, scenario: str, what: Need, victim: Part | None) -> Answer:
        self.done[scenario, what] += 1
        if victim is None:
            assert self.done[scenario, Part("victim")], "importances of a victim that is not there"
            found = 0 if what.share is None else discovered_count(100, what.share)
            shards = what.shards(self.train_count - found) if what.shard is None else ()
            assert all(self.done[scenario, one] for one in shards), "a whole before its shards"
        if (scenario, what) in self.broken:
            raise Broken(str(what))
        passed = scenario not in self.gate_failed if what == victim else None
        return Answer(train_count=self.train_count, gate_passed=passed)

    def _check_untreated(self, job: UntreatedJob) -> None:
        assert self.done[job.scenario.key, Part("victim")]
        if job.cell.baseline == "eu" and job.scenario.key not in self.gate_failed:
            assert self.done[job.scenario.key, Part("retain", job.cell.share)]

    def _searched(self, job: SearchJob) -> Answer:
        assert self.done[job.scenario.key, Part("clean")], "a search before the scenario is ready"
        task = Task(scenario=job.scenario, cell=job.cell)
        assert any(of == job.scenario.key and hasattr(what, "kinds") for of, what in self.done)
        searching = self.searching(task)
        found = searching.carry_on(job.history, job.skip, job.count)
        assert len(found) <= job.count
        over = searching.start.place([*job.history, *found]) is None
        return Answer(
            start=searching.start,
            evaluated=tuple(found),
            search_seconds=0.01 * len(found),
            finished=job.finish and over,
        )

    def searching(self, task: Task) -> Any:
        settings = task.cell.dampening
        assert settings is not None
        accuracy = accuracies(self.sorts[task.key], task.key)
        if settings.search == "grid":
            return FakeGrid(settings.grid().pairs(), accuracy)
        start = PTNStart(
            search=settings.ptn(0.2), forget_count=10, train_count=self.train_count, forget_accuracy=0.99
        )
        return PTNSearching(start, FakeProblem(accuracy), 1.0)  # type: ignore[arg-type]

    def expected(self, task: Task) -> list[Row] | str:
        """The rows of the search from beginning to end in one process, or what went wrong."""
        scenario, cell = task.scenario.key, task.cell
        if (scenario, Part("victim")) in self.broken:
            return "failed"
        if scenario in self.gate_failed:
            return []
        own = [what for of, what in self.broken if of == scenario]
        if any(
            what == Part("clean") or what == Part("retain", cell.share) for what in own if _eu(cell, what)
        ):
            return "failed"
        return [] if cell.baseline else self._sequential(task)

    def _sequential(self, task: Task) -> list[Row] | str:
        searching = self.searching(task)
        try:
            if isinstance(searching, FakeGrid):
                return [searching.row(number) for number in range(len(searching.pairs))]
            search, start = searching.start.search, searching.start
            state = search.start(
                forget_count=start.forget_count,
                train_count=start.train_count,
                victim_forget_accuracy=start.forget_accuracy,
            )
            problem = Sequential(accuracies(self.sorts[task.key], task.key))
            run_ptn(search, state, problem)  # type: ignore[arg-type]
            return problem.rows
        except Broken:
            return "failed"


def _eu(cell: Any, what: Part) -> bool:
    return what.name != "retain" or cell.baseline == "eu"


class Sequential:
    """A `FakeProblem` that writes down what it gave."""

    def __init__(self, accuracy: Callable[[float], float]) -> None:
        self._problem, self.rows = FakeProblem(accuracy), list[Row]()

    def evaluate(self, percentile: float, *, threshold: float | None = None) -> Evaluation:
        found = self._problem.evaluate(percentile, threshold=threshold)
        self.rows.append(row_from(found))
        return found

    def evaluate_at(self, alpha: float) -> Evaluation:
        return Evaluation(alpha=alpha, dampened=0, forget_accuracy=0.0)

    def release(self) -> None:
        pass


@dataclass(frozen=True)
class FakeGrid:
    """A grid of pairs, each of which may break."""

    pairs: list[tuple[float, float]]
    accuracy: Callable[[float], float]

    @property
    def start(self) -> GridStart:
        return GridStart(count=len(self.pairs))

    def carry_on(self, history: tuple[Row, ...], skip: int = 0, count: int | None = None) -> list[Row]:
        first = len(history) + skip
        last = len(self.pairs) if count is None else min(len(self.pairs), first + count)
        return [self.row(number) for number in range(first, last)]

    def row(self, number: int) -> Row:
        alpha, constant = self.pairs[number]
        accuracy = self.accuracy(100.0 - number)
        return asdict(
            GridRow(
                alpha=alpha,
                dampening_constant=constant,
                dampened=number,
                forget_accuracy=accuracy,
                held_out_accuracy=0.5,
                score=accuracy / 3,
            )
        )


class Driver:
    """Workers that take jobs from a schedule, and do them in any order.

    Args:
        schedule: what to do.
        world: what comes of it.
        chance: decides who asks, whose answer comes next, and who dies.
        workers: how many.
        deaths: jobs that kill their worker, at most; never more than a job survives.
    """

    def __init__(
        self, schedule: Schedule, world: World, chance: random.Random, *, workers: int, deaths: int = 0
    ) -> None:
        self.schedule, self.world, self.chance, self._deaths = schedule, world, chance, deaths
        self.idle = list(range(workers))
        self._newest = workers
        self.out: list[Ticket] = []
        self.rows: dict[str, list[Row]] = {}
        self.over: list[Done] = []
        self.given: list[Ticket] = []

    def run(self, *, drain_after: int | None = None) -> None:
        """To the end; with ``drain_after`` the schedule is drained after so many jobs."""
        while not self.schedule.finished:
            if drain_after is not None and len(self.given) >= drain_after:
                self.schedule.drain()
            asked = self.chance.random() < 0.6 and self.ask()
            if not asked and self.out:
                self.arrive()
            elif not asked and not self.ask():
                assert self.schedule.finished, "nobody has anything to do, and the sweep is not over"

    def ask(self) -> bool:
        """Idle workers ask in any order until one gets a job."""
        for worker in self.chance.sample(self.idle, len(self.idle)):
            ticket = self.schedule.next(worker)
            if ticket:
                assert (ticket.worker, self.schedule.out[ticket.number]) == (worker, ticket)
                self.idle.remove(worker)
                self.out.append(ticket)
                self.given.append(ticket)
                return True
        return False

    def arrive(self, ticket: Ticket | None = None) -> None:
        """Any answer comes, or the death of who should have given it."""
        ticket = ticket or self.chance.choice(self.out)
        self.out.remove(ticket)
        if self._deaths and self.chance.random() < 0.15:
            return self.die(ticket)
        answer = Answer.model_validate_json(self.world.answer(ticket.job.model_dump_json()).model_dump_json())
        over = self.schedule.done(ticket.number, answer)
        self.idle.append(ticket.worker)
        self.over += over
        if answer.finished and over:
            assert isinstance(ticket.job, SearchJob | UntreatedJob)
            history = getattr(ticket.job, "history", ())
            self.rows[over[0].task.key] = [*history, *answer.evaluated]

    def die(self, ticket: Ticket) -> None:
        """The worker is gone; a new one has a new number."""
        self._deaths -= 1
        self.over += self.schedule.lost(ticket.number, Failure(error_class="WorkerDied", message="gone"))
        self.schedule.forget(ticket.worker)
        self.idle.append(self._newest)
        self._newest += 1

    def found(self, task: Task) -> list[Row] | str | None:
        """The rows of a cell, "failed", or None where it is not over; over once at most."""
        ends = [done for done in self.over if done.task == task]
        assert len(ends) <= 1, "it ended twice"
        if not ends:
            return None
        return "failed" if ends[0].failure else self.rows[task.key]
