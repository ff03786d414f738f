"""What one scenario of a sweep still needs: trainings, importances, and its cells."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ...datasets.poisoning import discovered_count
from ..settings import HealSettings
from ..training import start_of
from .files import Task
from .jobs import Answer, Failure, ImportanceJob, TrainJob, UntreatedJob
from .open_search import OpenSearch
from .victim_bench import Part
from .victim_importances import ImportancePart, part_for
from .victim_parts import problem_sort

VICTIM, CLEAN = Part("victim"), Part("clean")
Need = Part | ImportancePart
Rank = Literal["first", "middle", "last"]


@dataclass(kw_only=True, eq=False)
class Step:
    """A training, or importances of a large set.

    Attributes:
        what: what is made.
        job: how.
        rank: "first", before any cell (the victim, the clean model); "middle", when no cell can be worked on
            (importances); "last" (EU, which only its own cell needs).
        needs: what must be there before.
        given: a worker has it, or has done it.
        attempts: workers that died with it.
    """

    what: Need
    job: TrainJob | ImportanceJob
    rank: Rank
    needs: frozenset[Need] = frozenset()
    given: bool = False
    attempts: int = 0


@dataclass(kw_only=True, eq=False)
class CellPlan:
    """A cell on its way.

    Attributes:
        task: the cell.
        needs: what must be there before.
        search: of a method with settings; None: the cell is one job.
        problem: what it shares with cells that differ in the search only.
        given: a worker has it (without search).
        over: its rows are there, or it failed.
        attempts: workers that died with it since its search last got further.
        attempts_ahead: workers that died with settings its search might not have come to.
    """

    task: Task
    needs: frozenset[Need]
    search: OpenSearch | None
    problem: Hashable
    given: bool = False
    over: bool = False
    attempts: int = 0
    attempts_ahead: int = 0

    @property
    def dampens(self) -> bool:
        """Tell whether the cell needs importances; once the victim has failed its gate, nothing does."""
        return self.search is not None and self.task.cell.dampening is not None

    @property
    def goes_on(self) -> bool:
        """Tell whether the cell's search has begun and is brought to its end though nothing else begins."""
        begun = self.search is not None and self.search.begun
        return begun and (not self.trains or (self.search is not None and self.search.complete))

    @property
    def trains(self) -> bool:
        """Tell whether each of its settings is a training."""
        return self.search is not None and self.task.cell.tuning is not None


@dataclass(eq=False)
class _Pace:
    settings: int = 0
    seconds: float = 0.0


class ScenarioPlan:
    """The steps and cells of one scenario.

    Args:
        tasks: all of the scenario.
        reference: whether the clean model is needed.
    """

    def __init__(self, tasks: Sequence[Task], *, reference: bool) -> None:
        self.scenario = tasks[0].scenario
        self._base = frozenset([VICTIM, CLEAN] if reference else [VICTIM])
        self._there: set[Need] = set()
        self._early_failures: list[tuple[Step, Failure]] = []
        self._gate_failed = False
        self.steps = [self._training(part) for part in (VICTIM, CLEAN) if part in self._base]
        self.cells = [self._cell(task) for task in tasks]
        shares = dict.fromkeys(cell.task.cell.share for cell in self.cells if cell.task.cell.baseline == "eu")
        self.steps += [self._training(Part("retain", share)) for share in shares]
        self._homes: dict[Hashable, int] = {}
        self._paces: dict[Hashable, _Pace] = {}
        self._left = len(self.cells)

    @property
    def over(self) -> bool:
        """Tell whether all cells are over."""
        return self._left == 0

    @property
    def gate_failed(self) -> bool:
        """Tell whether the victim is there and fails its gate."""
        return self._gate_failed

    def ready_step(self, rank: Rank) -> Step | None:
        """Return a step of that rank that can be taken now."""
        ready = (step for step in self.steps if not step.given and step.needs <= self._there)
        return next((step for step in ready if step.rank == rank), None)

    def candidates(self, worker: int) -> Iterator[CellPlan]:
        """Yield the cells that can be worked on, those first that this worker has something for."""
        ready = [cell for cell in self.cells if not cell.over and cell.needs <= self._there]
        yield from sorted(ready, key=lambda cell: self._distance(cell, worker))

    def step_done(self, step: Step, answer: Answer) -> list[tuple[CellPlan, Failure]]:
        """Note that a step was taken; return the cells that failed with it, and why.

        Before the victim is there it is not known whether anything else is needed: its gate comes first.

        Args:
            step: of this plan.
            answer: of the worker that took it.
        """
        failures = [(step, answer.failure)] if answer.failure else []
        if step.what != VICTIM and VICTIM not in self._there:
            self._early_failures += failures
            failures = []
        if not answer.failure:
            self._there.add(step.what)
            if step.what == VICTIM:
                self._victim_there(answer)
                failures, self._early_failures = self._early_failures, []
        return [(cell, failure) for one, failure in failures for cell in self._fail(one)]

    def _fail(self, step: Step) -> list[CellPlan]:
        """Fail what needs the step; steps come before those that need them."""
        missing: set[Need] = {step.what}
        for one in self.steps:
            if one.needs & missing:
                missing.add(one.what)
        self.steps = [one for one in self.steps if one.what not in missing]
        lost = [cell for cell in self.cells if not cell.over and cell.needs & missing]
        for cell in lost:
            self.end(cell)
        self._drop_steps()
        return lost

    def _drop_steps(self) -> None:
        """Drop the steps that only cells which are over would need."""
        wanted = {need for cell in self.cells if not cell.over for need in cell.needs}
        for step in reversed(self.steps):
            if step.what in wanted:
                wanted |= step.needs
        self.steps = [step for step in self.steps if step.what in wanted]

    def end(self, cell: CellPlan) -> None:
        """Note that the cell is over."""
        cell.over = True
        self._left -= 1

    def at_home(self, cell: CellPlan, worker: int) -> None:
        """Note that the worker holds the cell's problem from now on.

        Args:
            cell: of this plan.
            worker: its number.
        """
        self._homes[cell.problem] = worker

    def forget(self, worker: int) -> None:
        """Note that the worker holds nothing any more."""
        self._homes = {problem: home for problem, home in self._homes.items() if home != worker}

    def measured(self, cell: CellPlan, settings: int, seconds: float) -> None:
        """Note that so many settings of the cell's search took so many seconds.

        Args:
            cell: of this plan.
            settings: how many were evaluated.
            seconds: that they took together.
        """
        pace = self._paces.setdefault(self._pace_of(cell), _Pace())
        pace.settings, pace.seconds = pace.settings + settings, pace.seconds + seconds

    def seconds_per_setting(self, cell: CellPlan) -> float | None:
        """Return the seconds of a setting of the cell's sort up to now; None: nothing is known."""
        pace = self._paces.get(self._pace_of(cell))
        return pace.seconds / pace.settings if pace and pace.settings else None

    def untreated_job(self, cell: CellPlan) -> UntreatedJob:
        """Return the job of a cell without a search."""
        return UntreatedJob(scenario=self.scenario, cell=cell.task.cell)

    def _training(self, part: Part) -> Step:
        rank: Rank = "last" if part.name == "retain" else "first"
        return Step(what=part, job=TrainJob(scenario=self.scenario, part=part), rank=rank)

    def _cell(self, task: Task) -> CellPlan:
        cell, settings = task.cell, task.cell.dampening
        own = {Part("retain", cell.share)} if cell.baseline == "eu" else set()
        problem = (cell.share, problem_sort(settings)) if settings else cell.share
        search = OpenSearch(start_of(cell.tuning) if cell.tuning else None) if cell.settings else None
        # which importances a method needs is known when the victim is there
        return CellPlan(task=task, needs=self._base | own, search=search, problem=problem)

    def _victim_there(self, answer: Answer) -> None:
        if answer.gate_passed is False:
            self._gate_failed, self.steps = True, []
            for cell in self.cells:
                cell.needs, cell.search = frozenset([VICTIM]), None
            return
        wholes = {cell.problem: self._whole(cell) for cell in self.cells if cell.dampens}
        for whole in dict.fromkeys(wholes.values()):
            self._add_importances(whole, answer.train_count or 0)
        for cell in self.cells:
            if cell.dampens:
                cell.needs |= {wholes[cell.problem]}

    def _whole(self, cell: CellPlan) -> ImportancePart:
        """Return the large set that the cell needs, with all kinds that cells of the same batches want."""
        settings = _settings(cell)
        alike = {
            _settings(other).kind
            for other in self.cells
            if other.dampens
            and other.task.cell.share == cell.task.cell.share
            and _batches(_settings(other)) == _batches(settings)
        }
        return part_for(cell.task.cell.share, settings, tuple(sorted(alike)))

    def _add_importances(self, whole: ImportancePart, train_count: int) -> None:
        needs: frozenset[Need] = frozenset([VICTIM])
        found = 0 if whole.share is None else discovered_count(self.scenario.manipulated, whole.share)
        shards = whole.shards(train_count - found)
        self.steps += [self._importance(shard, needs) for shard in shards]
        self.steps.append(self._importance(whole, needs | set(shards)))

    def _importance(self, part: ImportancePart, needs: frozenset[Need]) -> Step:
        job = ImportanceJob(scenario=self.scenario, part=part)
        return Step(what=part, job=job, rank="middle", needs=needs)

    def _distance(self, cell: CellPlan, worker: int) -> tuple[int, bool]:
        """Return 0: this worker holds what the cell needs; 1: nobody does; 2: another worker does.

        The second value puts cells whose search has begun first.
        """
        begun = bool(cell.search and cell.search.begun)
        home = self._homes.get(cell.problem)
        return (0 if home == worker else 1 if home is None else 2, not begun)

    def _pace_of(self, cell: CellPlan) -> Hashable:
        return (cell.task.cell.share, cell.task.cell.search, cell.task.cell.method if cell.trains else None)


def _settings(cell: CellPlan) -> HealSettings:
    return cell.task.cell.dampening or HealSettings()


def _batches(settings: HealSettings) -> tuple[str, int, str]:
    return (settings.granularity, settings.batch_size, settings.precision)
