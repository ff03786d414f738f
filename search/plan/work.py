"""What a job of a sweep would take, and what its answer would be, without doing it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ...datasets.poisoning import discovered_count
from ...rows import Row
from ...unlearning.methods import Set
from ..searches import SEARCH_ENTRIES
from ..settings import HealSettings
from ..sweep import (
    STEPS_AFTER_STOP,
    Answer,
    Cell,
    ImportanceJob,
    ImportancePart,
    Part,
    Scenario,
    Scoring,
    SearchJob,
    Task,
    Ticket,
    TrainJob,
    UntreatedJob,
    part_for,
    piece_bounds,
    problem_sort,
)
from ..training import TuneSettings, start_of
from .costs import Costs, Reading, SortCosts

LOOK_UP = 0.01
"""Seconds of a job that finds its result in the store."""
TRAINING, IMPORTANCE, SEARCH, EVALUATION, LOADING, WAITING = (
    "training",
    "importance",
    "search",
    "evaluation",
    "loading",
    "waiting",
)
PHASES = (TRAINING, IMPORTANCE, SEARCH, EVALUATION, LOADING, WAITING)


@dataclass(kw_only=True)
class DoneWork:
    """A job that was done.

    Attributes:
        phases: part of the work -> seconds.
        answer: of the worker.
    """

    phases: dict[str, float] = field(default_factory=dict)
    answer: Answer = field(default_factory=Answer)

    @property
    def seconds(self) -> float:
        """Add up the seconds of all parts."""
        return sum(self.phases.values())

    def add(self, phase: str, seconds: float) -> None:
        """Add seconds to a part of the work."""
        self.phases[phase] = self.phases.get(phase, 0.0) + seconds


def made_by(task: Task, reference: bool) -> Iterable[Hashable]:
    """Yield what is in the store after a task, shards aside; importances of one kind each."""
    scenario, cell = task.scenario, task.cell
    yield _model(scenario, Part("victim"))
    if reference:
        yield _model(scenario, Part("clean"))
    if cell.baseline == "eu":
        yield _model(scenario, Part("retain", cell.share))
    if cell.dampening:
        for part in (part_for(cell.share, cell.dampening), *forget_parts(scenario, cell, cell.dampening)):
            yield from of_kinds(scenario, part)


class SmallPart(ImportancePart):
    """Samples ``first`` to ``last`` of S_m, or S_f of a share (granularity "batch")."""

    first: int
    last: int


def forget_parts(scenario: Scenario, cell: Cell, settings: HealSettings) -> tuple[SmallPart, ...]:
    """Return what importances of S_f are put together from."""
    whole = part_for(cell.share, settings)
    count = discovered_count(scenario.manipulated, cell.share)
    sample = settings.granularity == "sample"
    bounds = piece_bounds(scenario.manipulated, count) if sample else [0, count]
    return tuple(SmallPart(**whole.model_dump(), first=first, last=last) for first, last in pairwise(bounds))


def of_kinds(scenario: Scenario, part: ImportancePart) -> tuple[Hashable, ...]:
    """Return the entries of the store that a part is kept in, one for each kind."""
    return tuple((scenario, part.model_copy(update={"kinds": (kind,)})) for kind in part.kinds)


class SimulatedWork:
    """All workers of a simulation: what they hold, and what is in their store.

    Args:
        costs: of everything.
        finished: tasks whose models and importances are in the store.
        scoring: what is measured of a cell.
    """

    def __init__(self, costs: Costs, finished: Sequence[Task], scoring: Scoring) -> None:
        self._costs, self._scoring = costs, scoring
        self._there: dict[Hashable, float] = {
            thing: 0.0 for task in finished for thing in made_by(task, scoring.reference)
        }
        self._held: set[tuple[int, Hashable]] = set()

    def do(self, ticket: Ticket, now: float) -> DoneWork:
        """Do a job that is given out ``now``."""
        job, done = ticket.job, DoneWork()
        scenario, costs = job.scenario, self._costs.of(job.scenario)
        if isinstance(job, UntreatedJob):
            done.add(EVALUATION, LOOK_UP)
            done.answer = Answer(finished=True)
            return done
        if self._takes(ticket.worker, ("dataset", scenario.dataset, scenario.image_size)):
            done.add(LOADING, costs.load)
        if isinstance(job, TrainJob):
            self._train(scenario, job.part, costs, done)
            return done
        if self._takes(ticket.worker, ("victim", scenario)):
            done.add(LOADING, costs.build)
        if isinstance(job, ImportanceJob):
            self._importance(job, costs, done)
        else:
            self._search(ticket.worker, job, costs, done, now)
        return done

    def _takes(self, worker: int, thing: Hashable) -> bool:
        """Tell whether the worker must get the thing first; it holds it from now on."""
        new = (worker, thing) not in self._held
        self._held.add((worker, thing))
        return new

    def _train(self, scenario: Scenario, part: Part, costs: SortCosts, done: DoneWork) -> None:
        model = _model(scenario, part)
        if model in self._there:
            done.add(LOADING, LOOK_UP)
        else:
            self._there[model] = 0.0
            done.add(TRAINING, costs.train_seconds(scenario))
            done.add(EVALUATION, costs.truth_seconds(scenario))
        passed = True if part.name == "victim" else None
        done.answer = Answer(train_count=costs.train_count, gate_passed=passed)

    def _importance(self, job: ImportanceJob, costs: SortCosts, done: DoneWork) -> None:
        """Compute a large set, or a shard of one; shards of a set that is there are not needed any more."""
        part, scenario = job.part, job.scenario
        whole = part.model_copy(update={"shard": None})
        missing = [kind for kind in of_kinds(scenario, whole) if kind not in self._there]
        if not missing:
            done.add(LOADING, LOOK_UP)
            return
        samples = set_size(scenario, part, costs.train_count)
        shards = len(part.shards(samples))
        if part.shard is None:
            self._there.update(dict.fromkeys(missing, 0.0))
        if part.shard is None and shards:
            done.add(IMPORTANCE, len(missing) * (shards * costs.read + costs.store))
            return
        samples = -(-samples // part.shard[1]) if part.shard else samples
        seconds = costs.reading_seconds(Reading.of(part), samples)
        done.add(IMPORTANCE, seconds + len(part.kinds) * costs.store)

    def _search(self, worker: int, job: SearchJob, costs: SortCosts, done: DoneWork, now: float) -> None:
        cell, scenario = job.cell, job.scenario
        if cell.tuning:
            self._tune(worker, job, cell.tuning, costs, done)
            return
        settings = cell.dampening or HealSettings()
        count = discovered_count(scenario.manipulated, cell.share)
        compared = _compared(settings, costs.train_count - count)
        if self._takes(worker, (scenario, cell.share, settings.compared, settings.batch_size)):
            done.add(EVALUATION, compared * costs.forward)
        done.add(EVALUATION, count * costs.forward)
        if self._takes(worker, (scenario, cell.share, problem_sort(settings))):
            self._problem(scenario, cell, settings, costs, done, now)
        expected = SEARCH_ENTRIES[settings.search].expected
        sizes = self._costs.sizes(settings, count, costs.train_count)
        start = expected.start(settings, sizes)
        rows = expected.rows(start, settings, sizes, job.history, job.skip, job.count)
        seconds = len(rows) * costs.setting_seconds(settings, count)
        seconds += expected.beginning(settings, sizes).others * costs.forward
        done.add(SEARCH, seconds)
        evaluated = len(job.history) + len(rows)
        finished = job.finish and start.place([*job.history, *rows]) is None
        if finished:
            done.add(EVALUATION, compared * costs.forward)
            done.add(EVALUATION, self._scored(scenario, settings, evaluated, count, costs))
        done.answer = Answer(start=start, evaluated=tuple(rows), search_seconds=seconds, finished=finished)

    def _tune(
        self, worker: int, job: SearchJob, settings: TuneSettings, costs: SortCosts, done: DoneWork
    ) -> None:
        """Run trainings, each judged on S_f, on a part of retain and on the test images."""
        scenario = job.scenario
        found = discovered_count(scenario.manipulated, job.cell.share)
        sizes: dict[Set, int] = {
            "forget": found,
            "retain": costs.train_count - found,
            "clean": scenario.held_back.clean,
        }
        compared = _compared(settings, sizes["retain"])
        if self._takes(worker, (scenario, job.cell.share, settings.compared, settings.batch_size)):
            done.add(EVALUATION, compared * costs.forward)
        start = start_of(settings)
        rows: list[Row] = [{} for _ in range(min(job.count, start.count - len(job.history) - job.skip))]
        seconds = len(rows) * costs.trial_seconds(settings, scenario.recipe, sizes)
        done.add(SEARCH, seconds)
        done.add(EVALUATION, found * costs.forward)
        judged = (found + compared) * costs.forward + costs.truth_seconds(scenario)
        done.add(EVALUATION, len(rows) * judged)
        finished = job.finish and start.place([*job.history, *rows]) is None
        done.answer = Answer(start=start, evaluated=tuple(rows), search_seconds=seconds, finished=finished)

    def _scored(
        self, scenario: Scenario, settings: HealSettings, evaluated: int, count: int, costs: SortCosts
    ) -> float:
        """Return the seconds of scoring a stop, and steps with scores of their own; see `Treatment.rows`."""
        truth, wanted = costs.truth_seconds(scenario), self._scoring.steps
        if not wanted:
            return truth
        beyond = STEPS_AFTER_STOP if SEARCH_ENTRIES[settings.search].walks else 0
        models = 1 + -(-evaluated // max(1, evaluated // wanted)) + beyond
        return models * truth + beyond * costs.setting_seconds(settings, count)

    def _problem(
        self,
        scenario: Scenario,
        cell: Cell,
        settings: HealSettings,
        costs: SortCosts,
        done: DoneWork,
        now: float,
    ) -> None:
        parts = forget_parts(scenario, cell, settings)
        for part in parts:
            self._piece(scenario, part, costs, done, now)
        done.add(LOADING, (1 + len(parts)) * costs.read + costs.problem)
        count = discovered_count(scenario.manipulated, cell.share)
        sizes = self._costs.sizes(settings, count, costs.train_count)
        looked = SEARCH_ENTRIES[settings.search].expected.problem(settings, sizes)
        if looked.read:
            reading = Reading.of(part_for(cell.share, settings))
            done.add(IMPORTANCE, costs.reading_seconds(reading, looked.read))
        done.add(IMPORTANCE, looked.others * costs.forward)

    def _piece(
        self, scenario: Scenario, part: SmallPart, costs: SortCosts, done: DoneWork, now: float
    ) -> None:
        kinds, here = of_kinds(scenario, part), now + done.seconds
        if all(kind in self._there for kind in kinds):
            done.add(WAITING, max(0.0, max(self._there[kind] for kind in kinds) - here))
            return
        seconds = costs.reading_seconds(Reading.of(part), part.last - part.first)
        done.add(IMPORTANCE, seconds + len(kinds) * costs.store)
        self._there.update(dict.fromkeys(kinds, now + done.seconds))


def set_size(scenario: Scenario, part: ImportancePart, train_count: int) -> int:
    """Count the samples of the large set of a part."""
    return train_count - (0 if part.share is None else discovered_count(scenario.manipulated, part.share))


def _compared(settings: HealSettings | TuneSettings, retain_count: int) -> int:
    return retain_count if settings.compared == "all" else min(retain_count, settings.compared)


def _model(scenario: Scenario, part: Part) -> Hashable:
    return (scenario.without_attack if part.name == "clean" else scenario, part)
