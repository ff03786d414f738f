"""The conductor between a scripted schedule and a fleet of paper: no Ray, no torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import ray
from ray.exceptions import RayError

from theriac.cluster.conductor import GROW_SECONDS, Conductor, describe
from theriac.cluster.fleet import Member
from theriac.cluster.names import ANSWER, CONFIG_ACTOR, CONFIG_JOB, LOST
from theriac.errors import BadInput
from theriac.search.settings import HealSettings
from theriac.search.sweep.cell_rows import CellRows
from theriac.search.sweep.files import Task
from theriac.search.sweep.jobs import Answer, Failure, Job, SearchJob, TrainJob, UntreatedJob, read_job
from theriac.search.sweep.scenario import Cell, Scenario
from theriac.search.sweep.schedule import Done, Ticket
from theriac.search.sweep.victim_bench import Part

SCENARIO = Scenario(dataset="digits", manipulated=10)
CELL = Cell(share=0.2, settings=HealSettings(method="lf"))
NONE = Cell(share=0.2, baseline="none")
TASK = Task(scenario=SCENARIO, cell=CELL)
SEARCH = SearchJob(scenario=SCENARIO, cell=CELL, count=8)
UNTREATED = UntreatedJob(scenario=SCENARIO, cell=NONE)
TRAIN = TrainJob(scenario=SCENARIO, part=Part("victim"))
ROWS = CellRows(search={"key": TASK.key, "status": "stopped"}, steps=[])
OOPS = Failure(error_class="ValueError", message="oops")


class FakeSchedule:
    """Gives its jobs one by one to whoever asks, and says of each answer what it was told to."""

    def __init__(self, *jobs: Job) -> None:
        self.jobs, self.workers, self.draining = list(jobs), 0, False
        self.out: dict[int, Ticket] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.over: list[Done] = []
        self.plans = [
            SimpleNamespace(cells=[SimpleNamespace(over=False), SimpleNamespace(over=True)]),
            SimpleNamespace(cells=[SimpleNamespace(over=False)]),
        ]

    @property
    def finished(self) -> bool:
        return not self.jobs and not self.out

    def next(self, worker: int) -> Ticket | None:
        if not self.jobs:
            return None
        number = 100 + len(self.jobs)
        job = self.jobs.pop(0)
        self.out[number] = Ticket(number=number, worker=worker, job=job, plan=cast(Any, None))
        return self.out[number]

    def done(self, number: int, answer: Answer) -> list[Done]:
        self.calls.append(("done", self.out.pop(number).job.sort, answer))
        return self.over

    def lost(self, number: int, failure: Failure) -> list[Done]:
        self.calls.append(("lost", self.out.pop(number).job.sort, failure))
        return self.over

    def forget(self, worker: int) -> None:
        self.calls.append(("forget", worker))

    def drain(self) -> None:
        self.draining = True


class FakeFleet:
    """Members whose rows are what they were given."""

    def __init__(self, size: int, collect: Callable[[str], Any] = lambda _: ROWS) -> None:
        self.collect, self.lost, self.spare = collect, 0, 0
        self.members = {number: self._member(number) for number in range(size)}

    def _member(self, number: int) -> Member:
        handle = SimpleNamespace(collect=SimpleNamespace(remote=lambda key: lambda: self.collect(key)))
        return Member(number=number, name=f"actor-{number}", node="n", address="10.0.0.1", handle=handle)

    def drop(self, number: int) -> None:
        del self.members[number]
        self.lost += 1

    def grow(self) -> list[Member]:
        added = [self._member(50 + number) for number in range(self.spare)]
        self.spare = 0
        self.members.update({one.number: one for one in added})
        return added


class Records:
    """Takes rows, or has a full disk."""

    def __init__(self, *, full: bool = False) -> None:
        self.full, self.rows = full, list[tuple[Task, CellRows]]()

    def __call__(self, task: Task, rows: CellRows) -> None:
        if self.full:
            raise OSError("no space left")
        self.rows.append((task, rows))


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda asked: asked())


def conduct(schedule: FakeSchedule, fleet: FakeFleet, records: Records | None = None) -> Conductor:
    return Conductor(cast(Any, schedule), cast(Any, fleet), records or Records())


def answer(**values: Any) -> dict[str, Any]:
    return {ANSWER: Answer(**values).model_dump_json(), "done": True}


def test_a_job_for_each_idle_worker() -> None:
    conductor = conduct(FakeSchedule(TRAIN, SEARCH, UNTREATED), FakeFleet(2))
    first, second = conductor.suggest("a"), conductor.suggest("b")
    assert first is not None
    assert second is not None
    assert {first[CONFIG_ACTOR], second[CONFIG_ACTOR]} == {"actor-0", "actor-1"}
    assert read_job(first[CONFIG_JOB]) == TRAIN
    assert read_job(second[CONFIG_JOB]) == SEARCH
    assert conductor.suggest("c") is None
    assert conductor.error is None
    assert [(member.number, ticket.job) for member, ticket in conductor.at_work()] == [
        (0, TRAIN),
        (1, SEARCH),
    ]
    conductor.completed("b", answer())
    third = conductor.suggest("c")
    assert third is not None
    assert third[CONFIG_ACTOR] == "actor-1"
    assert not conductor.finished


def test_rows_of_a_finished_cell_are_recorded() -> None:
    schedule, records = FakeSchedule(SEARCH), Records()
    asked: list[str] = []

    def collect(key: str) -> CellRows:
        asked.append(key)
        return ROWS

    conductor = conduct(schedule, FakeFleet(1, collect), records)
    conductor.suggest("a")
    schedule.over = [Done(task=TASK)]
    conductor.completed("a", answer(finished=True))
    assert asked == [TASK.key]
    assert records.rows == [(TASK, ROWS)]
    assert (conductor.done, conductor.failed, conductor.finished) == (1, 0, True)


def test_a_search_that_goes_on_records_nothing() -> None:
    records = Records()
    conductor = conduct(FakeSchedule(SEARCH), FakeFleet(1), records)
    conductor.suggest("a")
    conductor.completed("a", answer())
    assert (records.rows, conductor.done) == ([], 0)


def test_a_victim_below_its_gate_counts_as_failed() -> None:
    schedule, records = FakeSchedule(SEARCH), Records()
    rows = CellRows(search={"status": "gate_failed"}, steps=[])
    conductor = conduct(schedule, FakeFleet(1, lambda _: rows), records)
    conductor.suggest("a")
    schedule.over = [Done(task=TASK)]
    conductor.completed("a", answer(finished=True))
    assert (conductor.done, conductor.failed, len(records.rows)) == (1, 1, 1)


@pytest.mark.parametrize("bad_input", [False, True])
def test_a_cell_that_failed_is_a_row(bad_input: bool) -> None:
    schedule, records = FakeSchedule(SEARCH), Records()
    conductor = conduct(schedule, FakeFleet(1), records)
    conductor.suggest("a")
    schedule.over = [Done(task=TASK, failure=OOPS)]
    conductor.completed("a", answer(failure=OOPS.model_copy(update={"bad_input": bad_input})))
    ((task, rows),) = records.rows
    assert task == TASK
    assert (rows.search["key"], rows.search["status"]) == (TASK.key, "failed")
    assert (rows.search["error_class"], rows.search["error_message"]) == ("ValueError", "oops")
    assert (conductor.done, conductor.failed, conductor.error) == (1, 1, None)


def test_bad_input_in_training_ends_the_sweep() -> None:
    schedule, records = FakeSchedule(TRAIN, SEARCH), Records()
    conductor = conduct(schedule, FakeFleet(1), records)
    conductor.suggest("a")
    failure = Failure(error_class="BadInput", message="no such dataset", bad_input=True)
    conductor.completed("a", answer(failure=failure))
    assert isinstance(conductor.error, BadInput)
    assert str(conductor.error) == "no such dataset"
    assert conductor.finished
    assert records.rows == []


def test_other_failures_in_training_do_not() -> None:
    schedule = FakeSchedule(TRAIN)
    conductor = conduct(schedule, FakeFleet(1))
    conductor.suggest("a")
    conductor.completed("a", answer(failure=OOPS))
    assert conductor.error is None
    assert schedule.calls == [("done", "train", Answer(failure=OOPS))]


@pytest.mark.parametrize("error", [KeyError("gone"), RayError("dead")])
def test_rows_that_are_lost_are_computed_again(error: Exception) -> None:
    def refuse(_: str) -> CellRows:
        raise error

    schedule, records = FakeSchedule(SEARCH), Records()
    conductor = conduct(schedule, FakeFleet(1, refuse), records)
    conductor.suggest("a")
    conductor.completed("a", answer(finished=True))
    ((call, sort, failure),) = schedule.calls
    assert (call, sort, failure.error_class) == ("lost", "search", "WorkerDied")
    assert "restarted" in failure.message
    assert (records.rows, conductor.done, conductor.error) == ([], 0, None)
    schedule.jobs.append(TRAIN)
    assert conductor.suggest("b") is not None  # the worker is there


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({LOST: "its node was lost", "done": True}, "its node was lost; run the same command again"),
        (None, "the process of a trial died again and again; run the same command"),
        ({"done": True}, "the process of a trial died again and again"),
    ],
)
def test_a_worker_that_is_gone_is_replaced(
    result: dict[str, Any] | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    schedule, fleet = FakeSchedule(SEARCH, TRAIN), FakeFleet(1)
    conductor = conduct(schedule, fleet)
    conductor.suggest("a")
    fleet.spare = 1
    conductor.completed("a", result)
    assert schedule.calls[0] == ("forget", 0)
    call, _, failure = schedule.calls[1]
    assert call == "lost"
    assert failure.error_class == "WorkerDied"
    assert words in failure.message
    assert "its work is done again" in caplog.text
    assert (list(fleet.members), fleet.lost) == ([50], 1)
    given = conductor.suggest("b")
    assert given is not None
    assert given[CONFIG_ACTOR] == "actor-50"


def test_a_cell_that_kills_its_workers_is_a_failed_row() -> None:
    schedule, fleet, records = FakeSchedule(SEARCH), FakeFleet(2), Records()
    conductor = conduct(schedule, fleet, records)
    conductor.suggest("a")
    schedule.over = [Done(task=TASK, failure=Failure(error_class="WorkerDied", message="again"))]
    conductor.completed("a", {LOST: "killed"})
    assert records.rows[0][1].search["error_class"] == "WorkerDied"
    assert (conductor.done, conductor.failed) == (1, 1)


@pytest.mark.parametrize("result", [answer(finished=True), {LOST: "killed"}, {ANSWER: "{"}])
def test_what_cannot_be_recorded_or_read_ends_the_sweep(result: dict[str, Any]) -> None:
    schedule = FakeSchedule(SEARCH, TRAIN)
    conductor = conduct(schedule, FakeFleet(2), Records(full=True))
    conductor.suggest("a")
    schedule.over = [Done(task=TASK, failure=OOPS)]
    conductor.completed("a", result)
    assert isinstance(conductor.error, OSError | ValueError)
    assert conductor.finished


def test_no_workers_left_is_bad_input() -> None:
    schedule, fleet = FakeSchedule(SEARCH, TRAIN), FakeFleet(1)
    conductor = conduct(schedule, fleet)
    conductor.suggest("a")
    conductor.completed("a", {LOST: "its node was lost"})
    assert conductor.suggest("b") is None
    assert isinstance(conductor.error, BadInput)
    assert "no workers are left" in str(conductor.error)


def test_a_schedule_that_is_stuck_does_not_wait_for_ever() -> None:
    schedule = FakeSchedule(TRAIN)
    conductor = conduct(schedule, FakeFleet(1))
    schedule.next = lambda worker: None  # type: ignore[method-assign]
    assert conductor.suggest("a") is None
    assert isinstance(conductor.error, RuntimeError)


def test_new_nodes_are_taken_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    schedule, fleet = FakeSchedule(TRAIN, SEARCH), FakeFleet(1)
    conductor = conduct(schedule, fleet)
    conductor.suggest("a")
    fleet.spare = 1
    assert conductor.suggest("b") is None
    now[0] = GROW_SECONDS + 1
    given = conductor.suggest("b")
    assert given is not None
    assert given[CONFIG_ACTOR] == "actor-50"
    assert schedule.workers == 2


def test_what_is_left_and_draining() -> None:
    schedule = FakeSchedule(TRAIN)
    conductor = conduct(schedule, FakeFleet(1))
    assert conductor.left == 2
    conductor.drain()
    assert schedule.draining


@pytest.mark.parametrize(
    ("job", "words"), [(TRAIN, "training victim"), (SEARCH, "search"), (UNTREATED, "scoring")]
)
def test_description_of_a_job(job: Job, words: str) -> None:
    assert describe(Ticket(number=0, worker=0, job=job, plan=cast(Any, None))) == words


def test_what_workers_warn_of_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    conductor = conduct(FakeSchedule(TRAIN, SEARCH), FakeFleet(2))
    for trial in ("a", "b"):
        conductor.suggest(trial)
    for trial in ("a", "b"):
        conductor.completed(trial, answer(warnings=("models/x is torn", f"only {trial}")))
    said = [record.getMessage() for record in caplog.records]
    assert said == ["models/x is torn", "only a", "only b"]
