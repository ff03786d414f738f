"""Blocks of real searches on several runners: the rows are those of one process from beginning to end."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from theriac.datasets.poisoning import Share
from theriac.search.settings import HealSettings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.sweep.cell_rows import CellRows
from theriac.search.sweep.cells import run_cell
from theriac.search.sweep.files import Task
from theriac.search.sweep.jobs import Answer, ImportanceJob, SearchJob, TrainJob, UntreatedJob, read_job
from theriac.search.sweep.runner import JobRunner, failure_of
from theriac.search.sweep.scenario import Cell, Gate, Scenario, Scoring
from theriac.search.sweep.scenario_progress import CellPlan, ScenarioPlan
from theriac.search.sweep.schedule import Schedule, Ticket
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.search.sweep.victim_importances import part_for
from theriac.search.training.settings import TuneSettings
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.training import Recipe

Row = dict[str, Any]

SCORING = Scoring(steps=2)
SMALL = Scenario(
    dataset="digits",
    model=ModelSpec(width=0.05),
    manipulated=100,
    recipe=Recipe(iterations=40, batch_size=128, learning_rate=0.1, augmentation="none"),
)


def cell(share: Share = 0.2, **settings: Any) -> Cell:
    return Cell(share=share, settings=HealSettings(**settings))


CELLS = {
    "ptn": cell(),
    "pieces": cell(piece=4),
    "coarse_fine": cell(strategy="coarse_fine", s_step=1.03, piece=4),
    "walks back": cell(b_start=1e-9, s_step=3.0),
    "batches": cell(method="ssd", granularity="batch", batch_size=300),
    "never": cell(max_steps=5),
    "grid": cell(
        method="lf", search="grid", alphas=(1e30, 50.0, 5.0), relative_lambdas=(0.5, 1.0, 5.0), held_out=80
    ),
    "grid of batches": cell(search="grid", granularity="batch", alphas=(50.0, 5.0), held_out=80),
    "guarded": cell(search="guarded", most_harm=0.5),
    "guarded, with nothing apart": cell(method="ssd", share="one_shot", search="guarded"),
    "trainings": Cell(
        share=0.2,
        settings=TuneSettings(
            method="ga", samples=8, together=3, parameters={"steps": 3, "record_every": 3}, compared=200
        ),
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def wanted(folder: Path) -> dict[str, CellRows]:
    experiment = Experiment(SMALL, ArtifactStore(folder), scoring=SCORING)
    return {name: run_cell(experiment, one) for name, one in CELLS.items()}


def runner(folder: Path, budget: int = 1 << 30) -> JobRunner:
    return JobRunner(ArtifactStore(folder), scoring=SCORING, budget=budget)


def run(runner: JobRunner, job: Any) -> Answer:
    """By way of JSON, as a worker elsewhere does it."""
    answer = Answer.model_validate_json(runner.run(read_job(job.model_dump_json())).model_dump_json())
    assert answer.failure is None, answer.failure
    return answer


def without_timings(row: Row) -> Row:
    return {name: value for name, value in row.items() if "seconds" not in name and name != "peak_memory"}


def check(found: CellRows, wanted: CellRows) -> None:
    assert without_timings(found.search) == without_timings(wanted.search)
    assert found.search.keys() == wanted.search.keys()
    assert found.steps == wanted.steps


class Small(Schedule):
    """Gives out blocks of ``block_seconds`` settings, however long they take."""

    def _count(self, plan: ScenarioPlan, cell: CellPlan) -> int:
        return int(self.block_seconds)


def test_the_cells_differ_in_what_matters(wanted: dict[str, CellRows]):
    searched = {name: rows.search for name, rows in wanted.items()}
    assert searched["never"]["status"] == "no_stop"
    assert all(searched[name]["status"] in ("stopped", "collapsed") for name in ("ptn", "pieces", "batches"))
    assert wanted["walks back"].steps[0]["crossed"]
    assert not wanted["walks back"].steps[searched["walks back"]["steps"] - 1]["crossed"]
    assert any(step["forget_accuracy"] is None for step in wanted["pieces"].steps)
    s = [step["s"] for step in wanted["coarse_fine"].steps if not step["after_stop"]]
    assert s != sorted(s), "it never turned"
    assert searched["guarded"]["status"] in ("stopped", "collapsed")
    assert {"scouted", "accepted"} <= {step["status"] for step in wanted["guarded"].steps}
    nothing = wanted["guarded, with nothing apart"]
    assert (nothing.search["status"], nothing.search["steps"], nothing.steps) == ("no_stop", 0, [])
    trained = wanted["trainings"]
    assert len({step["parameters"] for step in trained.steps}) == searched["trainings"]["steps"] == 8
    assert all(len(step["lfr"]) == 10 and step["healed_raw"] > 0 for step in trained.steps)


@pytest.mark.parametrize(
    ("name", "count"),
    [*((name, 3) for name in CELLS), ("never", 1), ("coarse_fine", 1), ("pieces", 1000), ("grid", 1000)],
)
def test_blocks_give_the_rows_of_one_run(folder: Path, wanted: dict[str, CellRows], name: str, count: int):
    runners, answer = [runner(folder), runner(folder)], Answer()
    history: tuple[Row, ...] = ()
    while not answer.finished:
        job = SearchJob(scenario=SMALL, cell=CELLS[name], history=history, count=count, seconds=2.0)
        runners.reverse()
        answer = run(runners[0], job)
        assert answer.finished or 0 < len(answer.evaluated) <= count
        history += answer.evaluated
    key = Task(scenario=SMALL, cell=CELLS[name]).key
    rows = runners[0].collect(key)
    check(rows, wanted[name])
    own = sum(row["seconds"] for row in rows.steps) if name == "trainings" else 2.0
    assert rows.search["seconds_search"] >= own, "time that went into it elsewhere counts"
    with pytest.raises(KeyError):
        runners[0].collect(key)


@pytest.mark.parametrize("name", ["ptn", "walks back", "grid", "trainings"])
def test_settings_that_are_skipped_are_somebody_elses(folder: Path, wanted: dict[str, CellRows], name: str):
    worker = runner(folder)
    whole = run(worker, SearchJob(scenario=SMALL, cell=CELLS[name], count=1000, finish=False))
    assert not whole.finished
    rows = whole.evaluated
    assert len(rows) == wanted[name].search["steps"] >= 8
    for known, skip in ((6, 1), (3, 1), (7, 0)) if name == "trainings" else ((5, 2), (1, 3), (3, 0)):
        job = SearchJob(
            scenario=SMALL, cell=CELLS[name], history=rows[:known], skip=skip, count=2, finish=False
        )
        assert run(runner(folder), job).evaluated == rows[known + skip : known + skip + 2]


@pytest.mark.parametrize(
    ("budget", "block", "names"), [(1 << 30, 2, list(CELLS)), (0, 8, ["pieces", "coarse_fine", "grid"])]
)
def test_a_whole_sweep_in_any_order_gives_the_rows_of_one_run(
    folder: Path, wanted: dict[str, CellRows], budget: int, block: int, names: list[str]
):
    keys = {Task(scenario=SMALL, cell=CELLS[name]).key: name for name in names}
    tasks = [Task(scenario=SMALL, cell=CELLS[name]) for name in names]
    schedule = Small(tasks, workers=4, block_seconds=block)
    runners, out = [runner(folder, budget) for _ in range(4)], list[Ticket]()
    chance, over = random.Random(0), []
    while not schedule.finished:
        idle = [number for number in range(4) if number not in {ticket.worker for ticket in out}]
        out += [ticket for ticket in map(schedule.next, chance.sample(idle, len(idle))) if ticket]
        ticket = out.pop(chance.randrange(len(out)))
        for done in schedule.done(ticket.number, run(runners[ticket.worker], ticket.job)):
            name = keys[done.task.key]
            check(runners[ticket.worker].collect(done.task.key), wanted[name])
            over.append(name)
    assert sorted(over) == sorted(names)
    assert any(one.search.wasted for plan in schedule.plans for one in plan.cells if one.search)


def test_trainings_and_importances_are_prepared_and_said(folder: Path, wanted: dict[str, CellRows]):
    worker = runner(folder)
    victim = run(worker, TrainJob(scenario=SMALL, part=Part("victim")))
    assert victim.gate_passed is True
    assert victim.train_count == len(Experiment(SMALL, ArtifactStore(folder)).data.train())
    assert run(worker, TrainJob(scenario=SMALL, part=Part("clean"))).gate_passed is None
    untaught = SMALL.recipe.model_copy(update={"iterations": 1, "learning_rate": 1e-9})
    strict = SMALL.model_copy(update={"recipe": untaught, "gate": Gate(clean_accuracy=1.0)})
    assert run(worker, TrainJob(scenario=strict, part=Part("victim"))).gate_passed is False
    part = part_for(0.2, HealSettings())
    answer = run(worker, ImportanceJob(scenario=SMALL, part=part))
    assert (answer.finished, answer.evaluated) == (False, ())
    assert answer.seconds > 0
    assert answer.peak_memory > 0


def test_cells_without_a_search_are_untreated(folder: Path, wanted: dict[str, CellRows]):
    worker, one = runner(folder), Cell(share=0.2, baseline="none")
    assert run(worker, UntreatedJob(scenario=SMALL, cell=one)).finished
    check(
        worker.collect(Task(scenario=SMALL, cell=one).key),
        run_cell(Experiment(SMALL, ArtifactStore(folder), scoring=SCORING), one),
    )


def test_what_a_job_raises_is_its_answer(folder: Path):
    answer = runner(folder).run(
        UntreatedJob(scenario=SMALL.model_copy(update={"dataset": "x"}), cell=CELLS["ptn"])
    )
    assert answer.failure
    assert answer.failure.bad_input
    assert "'x'" in answer.failure.message
    assert not answer.finished


numbers = st.one_of(st.floats(allow_nan=False), st.integers(-(2**60), 2**60), st.booleans(), st.none())
rows = st.lists(st.dictionaries(st.text(max_size=8), st.one_of(numbers, st.text(max_size=8)), max_size=6))


@given(rows=rows)
def test_numbers_survive_the_journey(rows: list[Row]):
    extremes = {"inf": math.inf, "minus": -math.inf, "tiny": 5e-324, "small": 1e-310, "zero": -0.0}
    history = (*rows, extremes)
    job = SearchJob(scenario=SMALL, cell=CELLS["pieces"], history=history, count=3)
    answer = Answer(evaluated=history)
    assert repr(read_job(job.model_dump_json())) == repr(job)
    assert repr(Answer.model_validate_json(answer.model_dump_json())) == repr(answer)


def test_what_a_worker_warns_of_comes_with_its_answer(tmp_path: Path) -> None:
    """Of a damaged entry, say: nobody reads what a worker logs."""
    job = TrainJob(scenario=SMALL, part=Part("victim"))
    assert JobRunner(ArtifactStore(tmp_path), budget=0).run(job).warnings == ()
    (weights,) = tmp_path.glob("models/*/model.safetensors")
    weights.write_bytes(bytes(weights.stat().st_size))
    answer = JobRunner(ArtifactStore(tmp_path), budget=0).run(job)
    assert answer.failure is None
    (warning,) = answer.warnings
    assert f"{weights.parent} is torn or changed (its data do not match their checksum)" in warning


def test_a_failure_tells_no_secret() -> None:
    failure = failure_of(OSError("cannot reach s3://me:se/cret@bucket/x"))
    assert failure.message == "cannot reach s3://me:***@bucket/x"
