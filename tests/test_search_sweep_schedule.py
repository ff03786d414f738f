"""A sweep in any order of arrival: the rows are those of one worker that does one thing after another."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from theriac.search.grid.start import TPEStart
from theriac.search.settings import HealSettings
from theriac.search.sweep import schedule as schedule_module
from theriac.search.sweep.files import Task
from theriac.search.sweep.jobs import Answer, Failure, ImportanceJob, SearchJob, TrainJob
from theriac.search.sweep.scenario import Cell, Scenario
from theriac.search.sweep.scenario_progress import CellPlan, ScenarioPlan
from theriac.search.sweep.schedule import MOST_ATTEMPTS, Done, Schedule
from theriac.search.sweep.victim_bench import Part
from theriac.search.training.settings import TuneSettings
from theriac.tests.sweep_world import Driver, World

SCENARIOS = [Scenario(dataset="digits", manipulated=100, seed=seed) for seed in range(3)]
SORTS = ["falls early", "falls late", "never", "at once", "always", "jumps", "jumps back"]
PTN = {"s_step": 1.5, "max_steps": 40}
CELLS = [
    Cell(share=0.1, settings=HealSettings(**PTN)),
    Cell(share=0.1, settings=HealSettings(**{**PTN, "strategy": "coarse_fine", "max_steps": 200})),
    Cell(share=1.0, settings=HealSettings(method="lf", granularity="batch", **PTN)),
    Cell(share=1.0, settings=HealSettings(method="ssd", granularity="batch", **PTN)),
    Cell(share=0.5, settings=HealSettings(search="grid", alphas=tuple(map(float, range(1, 8))))),
    Cell(share=0.1, baseline="none"),
    Cell(share=0.1, baseline="eu"),
    Cell(share=1.0, baseline="eu"),
]
FAILURE = Failure(error_class="Killed", message="gone")
chances = st.integers(0, 10**9).map(random.Random)


def world_of(tasks: list[Task], chance: random.Random, sorts: list[str], **of) -> World:
    return World({task.key: chance.choice(sorts) for task in tasks}, **of)


@st.composite
def sweeps(draw: st.DrawFn) -> list[Task]:
    scenarios = SCENARIOS[: draw(st.integers(1, 3))]
    chosen = [draw(st.sets(st.sampled_from(range(len(CELLS))), min_size=1, max_size=6)) for _ in scenarios]
    return [Task(scenario=s, cell=CELLS[n]) for s, of in zip(scenarios, chosen, strict=True) for n in of]


@pytest.fixture(scope="module", autouse=True)
def blocks_of_any_size():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule_module, "FEWEST", 1)
        yield


class Varied(Schedule):
    """Begins searches with blocks of any size."""

    def __init__(self, tasks: list[Task], chance: random.Random, workers: int) -> None:
        super().__init__(tasks, workers=workers, block_seconds=0.01 * chance.choice([1, 2, 3, 8, 17, 600]))
        self._first = chance.choice([1, 2, 5, 16])

    def _count(self, plan: ScenarioPlan, cell: CellPlan) -> int:
        return super()._count(plan, cell) if plan.seconds_per_setting(cell) else self._first


@given(
    tasks=sweeps(),
    chance=chances,
    workers=st.integers(1, 8),
    train_count=st.sampled_from([10**3, 8250]),
)
def test_any_order_gives_the_rows_of_one_worker(tasks, chance, workers, train_count):
    world = world_of(tasks, chance, SORTS, train_count=train_count)
    schedule = Varied(tasks, chance, workers)
    driver = Driver(schedule, world, chance, workers=workers)
    driver.run()
    assert [driver.found(task) for task in tasks] == [world.expected(task) for task in tasks]
    assert set(world.done.values()) == {1}, "trained or computed twice"
    assert not schedule.next(0)
    check_counts(schedule, driver)


def check_counts(schedule: Schedule, driver: Driver) -> None:
    searches = [cell.search for plan in schedule.plans for cell in plan.cells if cell.search]
    counts = schedule.counts
    assert counts.settings == sum(len(search.history) + search.wasted for search in searches)
    assert sum(counts.jobs.values()) == len(driver.given)
    assert counts.retried == 0


@given(tasks=sweeps(), chance=chances, workers=st.integers(1, 8), deaths=st.integers(1, MOST_ATTEMPTS - 1))
def test_dying_workers_change_nothing(tasks, chance, workers, deaths):
    world = world_of(tasks, chance, SORTS)
    schedule = Varied(tasks, chance, workers)
    driver = Driver(schedule, world, chance, workers=workers, deaths=deaths)
    driver.run()
    assert [driver.found(task) for task in tasks] == [world.expected(task) for task in tasks]
    assert set(world.done.values()) <= {1}, "the dead did nothing here"


@given(tasks=sweeps(), chance=chances, workers=st.integers(1, 8))
def test_settings_that_break_fail_the_searches_that_come_to_them(tasks, chance, workers):
    world = world_of(tasks, chance, [*SORTS, *["breaks"] * 7])
    driver = Driver(Varied(tasks, chance, workers), world, chance, workers=workers, deaths=1)
    driver.run()
    assert [driver.found(task) for task in tasks] == [world.expected(task) for task in tasks]


@given(
    tasks=sweeps(),
    chance=chances,
    workers=st.integers(1, 8),
    broken=st.sets(
        st.tuples(
            st.sampled_from([scenario.key for scenario in SCENARIOS]),
            st.sampled_from([Part("victim"), Part("clean"), Part("retain", 0.1), Part("retain", 1.0)]),
        )
    ),
    gates=st.sets(st.sampled_from([scenario.key for scenario in SCENARIOS])),
)
def test_broken_trainings_fail_what_needs_them_and_gates_come_first(tasks, chance, workers, broken, gates):
    world = world_of(tasks, chance, SORTS, broken=frozenset(broken), gate_failed=frozenset(gates))
    driver = Driver(Varied(tasks, chance, workers), world, chance, workers=workers)
    driver.run()
    assert [driver.found(task) for task in tasks] == [world.expected(task) for task in tasks]
    assert set(world.done.values()) <= {1}
    importances = {of for of, what in world.done if not isinstance(what, Part)}
    assert not importances & gates


@given(tasks=sweeps(), chance=chances, workers=st.integers(1, 8), after=st.integers(0, 30))
def test_draining_ends_what_has_begun_and_begins_nothing(tasks, chance, workers, after):
    world = world_of(tasks, chance, SORTS)
    schedule = Varied(tasks, chance, workers)
    driver = Driver(schedule, world, chance, workers=workers)
    driver.run(drain_after=after)
    begun = {ticket.cell.task.key for ticket in driver.given[:after] if ticket.cell}
    assert all(ticket.cell and ticket.cell.task.key in begun for ticket in driver.given[after:])
    for task in tasks:
        assert driver.found(task) == (world.expected(task) if task.key in begun else None)
    assert schedule.finished
    assert not schedule.open_cells


class Watched(Schedule):
    """Checks, whenever it speculates, that nothing else was to do."""

    speculations = 0

    def _speculation(self, plan, worker):
        ticket = super()._speculation(plan, worker)
        if ticket is None or ticket.block is None or not ticket.block.skip:
            assert ticket is None, "not speculation"
            return ticket
        Watched.speculations += 1
        for one in self.plans:
            if not one.over:
                assert not any(one.ready_step(rank) for rank in ("first", "middle", "last"))
                for cell in one.candidates(worker):
                    assert cell.given if cell.search is None else not cell.search.next_block(1)
        return ticket


def test_nobody_speculates_while_there_is_something_else():
    tasks = [Task(scenario=scenario, cell=cell) for scenario in SCENARIOS[:2] for cell in CELLS]
    for seed in range(10):
        chance = random.Random(seed)
        schedule = Watched(tasks, workers=6, block_seconds=0.02)
        Driver(schedule, world_of(tasks, chance, SORTS), chance, workers=6).run()
    assert Watched.speculations > 100


ONE = Task(scenario=SCENARIOS[0], cell=CELLS[0])
NEVER = World({ONE.key: "never"})


def ask(schedule: Schedule, worker: int) -> Any:
    """The worker's ticket."""
    ticket = schedule.next(worker)
    assert ticket
    return ticket


def ready(workers: int = 1, task: Task = ONE) -> Schedule:
    """A schedule of one search that can begin."""
    schedule = Schedule([task], workers=workers, block_seconds=0.02)
    for _ in range(3):
        answer(schedule, ask(schedule, 0))
    return schedule


def answer(schedule: Schedule, ticket, world: World = NEVER):
    return schedule.done(ticket.number, world.answer(ticket.job.model_dump_json()))


def test_a_job_that_kills_again_and_again_fails_its_cell_alone():
    tasks = [ONE, Task(scenario=SCENARIOS[0], cell=CELLS[5])]
    schedule, over = Schedule(tasks, workers=1), list[Done]()
    while not schedule.finished:
        ticket = ask(schedule, 0)
        searched = isinstance(ticket.job, SearchJob)
        over += schedule.lost(ticket.number, FAILURE) if searched else answer(schedule, ticket)
    assert schedule.counts.retried == MOST_ATTEMPTS - 1
    assert [(done.task, done.failure) for done in over if done.failure] == [(ONE, FAILURE)]
    assert {done.task.key for done in over} == {task.key for task in tasks}
    assert schedule.finished


@pytest.mark.parametrize("attempts", [MOST_ATTEMPTS - 1, MOST_ATTEMPTS])
def test_a_training_that_kills_again_and_again_fails_the_scenario(attempts: int):
    schedule = Schedule([ONE], workers=1)
    over = []
    for _ in range(attempts):
        ticket = ask(schedule, 0)
        assert ticket.job == TrainJob(scenario=ONE.scenario, part=Part("victim"))
        over += schedule.lost(ticket.number, FAILURE)
    assert schedule.finished == bool(over) == (attempts == MOST_ATTEMPTS)


def test_a_node_that_takes_many_blocks_of_a_search_along_is_one_death_of_it():
    schedule = ready(workers=6)
    answer(schedule, ask(schedule, 0))
    tickets = [ask(schedule, worker) for worker in range(6)]
    assert [ticket.block.skip > 0 for ticket in tickets] == [False, True, True, True, True, True]
    for ticket in reversed(tickets):
        assert schedule.lost(ticket.number, FAILURE) == []
    while not schedule.finished:
        over = answer(schedule, ask(schedule, 9))
    assert [done.failure for done in over] == [None]


def test_deaths_count_until_the_search_gets_further():
    schedule = ready()
    for _ in range(3 * MOST_ATTEMPTS):
        for _ in range(MOST_ATTEMPTS - 1):
            assert schedule.lost(ask(schedule, 0).number, FAILURE) == []
        answer(schedule, ask(schedule, 0))
    assert schedule.counts.retried == 3 * MOST_ATTEMPTS * (MOST_ATTEMPTS - 1)


def test_settings_ahead_that_kill_are_not_tried_for_ever():
    schedule = ready(workers=2)
    answer(schedule, ask(schedule, 0))
    front = ask(schedule, 0)
    for _ in range(MOST_ATTEMPTS):
        assert schedule.lost(ask(schedule, 1).number, FAILURE) == []
    assert schedule.next(1) is None
    answer(schedule, front)
    assert ask(schedule, 1).block.skip == 0


def test_a_block_takes_about_as_long_as_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(schedule_module, "FEWEST", 8)
    for seconds, count in ((0.1, 10), (1.0, 8), (1e-9, 512), (0.0, 16)):
        schedule = Schedule([ONE], workers=1)
        for _ in range(3):
            answer(schedule, ask(schedule, 0))
        first = ask(schedule, 0)
        assert first.block.count == 16
        found = NEVER.answer(first.job.model_dump_json())
        schedule.done(first.number, found.model_copy(update={"search_seconds": 16 * seconds}))
        assert ask(schedule, 0).block.count == count


def test_half_of_the_workers_train_for_the_next_scenario():
    tasks = [Task(scenario=scenario, cell=CELLS[0]) for scenario in SCENARIOS]
    schedule = Schedule(tasks, workers=4)
    jobs = [ask(schedule, worker).job for worker in range(4)]
    assert [(job.scenario.seed, job.part.name) for job in jobs] == [
        (0, "victim"),
        (0, "clean"),
        (1, "victim"),
        (1, "clean"),
    ]


def test_no_more_than_half_of_the_workers_train_ahead():
    tasks = [Task(scenario=scenario, cell=CELLS[0]) for scenario in SCENARIOS[:2]]
    schedule = Schedule(tasks, workers=3)
    ours = [ask(schedule, worker) for worker in range(2)]
    for ticket in ours:
        answer(schedule, ticket)
    ahead, here = (ask(schedule, worker).job for worker in range(2))
    assert (ahead.sort, ahead.scenario.seed) == ("train", 1)
    assert (here.sort, here.scenario.seed) == ("importance", 0)


@pytest.mark.parametrize("passed", [True, False])
def test_what_breaks_before_the_victim_is_there_waits_for_its_gate(passed: bool):
    tasks = [ONE, Task(scenario=SCENARIOS[0], cell=CELLS[6])]
    gates: frozenset[str] = frozenset() if passed else frozenset([ONE.scenario.key])
    world = World(NEVER.sorts, gate_failed=gates)
    schedule = Schedule(tasks, workers=2)
    victim, clean = (ask(schedule, worker) for worker in range(2))
    assert schedule.done(clean.number, Answer(failure=FAILURE)) == []
    over = answer(schedule, victim, world)
    assert [done.failure for done in over] == ([FAILURE] * 2 if passed else [])
    while not schedule.finished:
        ticket = ask(schedule, 0)
        assert ticket.job.sort == "untreated"
        over += answer(schedule, ticket, world)
    assert {done.task.key for done in over} == {task.key for task in tasks}
    assert len(over) == 2


def test_a_worker_goes_on_with_what_it_has_begun():
    cells = [CELLS[0], Cell(share=0.5, settings=HealSettings(**PTN))]
    tasks = [Task(scenario=SCENARIOS[0], cell=cell) for cell in cells]
    world = World({task.key: "never" for task in tasks})
    schedule = Schedule(tasks, workers=2, block_seconds=0.02)
    for _ in range(3):
        answer(schedule, ask(schedule, 0), world)
    begun = [ask(schedule, worker) for worker in (0, 1)]
    for _ in range(3):
        for ticket in begun:
            answer(schedule, ticket, world)
        again = [ask(schedule, worker) for worker in (1, 0)][::-1]
        assert [ticket.cell for ticket in again] == [ticket.cell for ticket in begun]
        assert again[0].cell != again[1].cell
        begun = again


def test_shards_of_importances_that_broke_are_not_computed_any_more():
    schedule = Schedule([ONE], workers=1)
    world = World(NEVER.sorts, train_count=100_000)
    answer(schedule, ask(schedule, 0), world)
    answer(schedule, ask(schedule, 0), world)
    ticket = ask(schedule, 0)
    assert isinstance(ticket.job, ImportanceJob)
    assert ticket.job.part.shard == (0, 25)
    over = schedule.done(ticket.number, Answer(failure=FAILURE))
    assert [done.failure for done in over] == [FAILURE]
    assert schedule.finished


def test_shards_that_another_cell_needs_are_still_computed():
    tasks = [ONE, Task(scenario=SCENARIOS[0], cell=CELLS[2])]
    schedule = Schedule(tasks, workers=1)
    world = World({task.key: "never" for task in tasks}, train_count=13_000)
    for _ in range(2):
        answer(schedule, ask(schedule, 0), world)
    ticket = ask(schedule, 0)
    over = schedule.done(ticket.number, Answer(failure=FAILURE))
    assert len(over) == 1
    while not schedule.finished:
        over += answer(schedule, ask(schedule, 0), world)
    assert [done.failure for done in over] == [FAILURE, None]
    parts: list[Any] = [what for _, what in world.done if not isinstance(what, Part)]
    assert {part.of for part in parts} == ({"S_tr", "retain"} - {ticket.job.part.of})
    assert len(parts) == 5


def test_trainings_of_a_round_go_to_all_workers_one_by_one_and_none_begins_while_draining():
    settings = TuneSettings(method="ga", samples=4, together=2)
    scenario = Scenario(dataset="digits", manipulated=10)
    schedule = Schedule([Task(scenario=scenario, cell=Cell(share=0.5, settings=settings))], workers=3)
    trained = Answer(train_count=100, gate_passed=True)
    for _ in range(2):
        ticket = schedule.next(0)
        assert ticket is not None
        schedule.done(ticket.number, trained)
    first, second = schedule.next(0), schedule.next(1)
    assert first is not None
    assert second is not None
    assert [(one.job.skip, one.job.count) for one in (first, second) if isinstance(one.job, SearchJob)] == [
        (0, 1),
        (1, 1),
    ]
    assert schedule.next(2) is None, "the next round depends on this one"
    start = TPEStart(count=4, together=2)
    schedule.done(second.number, Answer(start=start, evaluated=({"status": "done"},), search_seconds=1.0))
    assert schedule.next(2) is None
    schedule.drain()
    assert not schedule.finished, "a training is under way"
    schedule.done(first.number, Answer(start=start, evaluated=({"status": "done"},), search_seconds=1.0))
    assert schedule.next(0) is None
    assert schedule.finished
