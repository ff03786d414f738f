"""A sweep played through with made-up workers: what must hold whatever the costs are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from theriac.search.plan.costs import Costs, ForgetPass, Line, Reading, ScenarioSort, SortCosts, large_sets
from theriac.search.plan.simulation import Simulated, simulate
from theriac.search.settings import METHODS, HealSettings
from theriac.search.sweep.files import Task
from theriac.search.sweep.scenario import Cell, Scenario
from theriac.search.training.settings import TuneSettings
from theriac.unlearning.kinds import GRANULARITIES

START, OVERHEAD = 3.0, 0.01


def scenario(seed: int = 0, **changes: Any) -> Scenario:
    return Scenario(dataset="digits", manipulated=100, seed=seed, **changes)


def task(one: Scenario, share: Any, **settings: Any) -> Task:
    return Task(scenario=one, cell=Cell(share=share, settings=HealSettings(**settings)))


def some_tasks(scenarios: int = 3) -> list[Task]:
    """Per scenario: two shares, three methods, two granularities, a grid, EU and the victim as it is."""
    found = []
    for one in (scenario(seed) for seed in range(scenarios)):
        for share in ("one_shot", 0.5):
            found += [Task(scenario=one, cell=Cell(share=share, baseline=name)) for name in ("none", "eu")]
            for granularity in ("sample", "batch"):
                found += [
                    task(one, share, method=name, granularity=granularity) for name in ("ssd", "lf", "xlf")
                ]
            found.append(task(one, share, method="ssd", search="grid"))
    return found


def sort_costs(train_count: int = 1000, **changes: Any) -> SortCosts:
    readings = [Reading(kinds, "sample", "float32", 512) for kinds in (("fim",), ("lf", "xlf"))]
    readings.append(Reading(("fim", "lf", "xlf"), "batch", "float32", 512))
    values: dict[str, Any] = {
        **{"train_count": train_count, "test_count": 100, "classes": 10, "parameters": 10, "model_bytes": 40},
        **{"importance_bytes": 80, "load": 0.3, "build": 0.1, "iteration": 0.002, "forward": 0.0001},
        **{"store": 0.01, "read": 0.005, "problem": 0.05},
        "importance": dict.fromkeys(readings, Line(fixed=0.1, each=0.002)),
        "setting": {ForgetPass(512, "whole"): Line(fixed=0.02, each=0.0003)},
    }
    return SortCosts(**{**values, **changes})


def costs_of(one: SortCosts | None = None, **changes: Any) -> Costs:
    values: dict[str, Any] = {"device": "cpu", "peak_memory": 1 << 30, **changes}
    return Costs(sorts={ScenarioSort.of(scenario()): one or sort_costs()}, **values)


def steps_of(count: float) -> dict[tuple[str, str, str], float]:
    return {("ptn", method, name): count for method in METHODS for name in GRANULARITIES}


def run(tasks: list[Task], workers: int, costs: Costs | None = None, **options: Any) -> Simulated:
    given = {"reference": True, "overhead": OVERHEAD, "start_seconds": START, **options}
    return simulate(tasks, costs or costs_of(), workers, **given)


def test_one_worker_does_everything_one_after_another() -> None:
    found = run(some_tasks(), 1)
    assert found.makespan == pytest.approx(START + found.worker_seconds + found.driver_seconds)
    assert found.worker_seconds == pytest.approx(sum(found.phases.values()))
    assert found.driver_seconds == pytest.approx(OVERHEAD * sum(found.jobs.values()))
    assert found.phases["waiting"] == 0


def test_the_work_of_one_worker_adds_up() -> None:
    """One PTN search, by hand: a victim, one reading of S_tr, eleven pieces of S_m, 25 settings."""
    found = run([task(scenario(), 1.0)], 1, costs_of(steps=steps_of(25)), reference=False)
    one = sort_costs()
    truth = 2 * 100 * 0.0001
    phases = {
        "training": 4000 * 0.002,
        "importance": 0.1 + 0.002 * 1000 + 11 * 0.1 + 100 * 0.002 + 12 * 2 * 0.01,
        "search": 25 * (0.02 + 100 * 0.0003),
        "loading": 0.3 + 0.1 + 12 * 0.005 + 0.05,
    }
    assert {name: found.phases[name] for name in phases} == pytest.approx(phases)
    blocks = found.jobs["search"]
    assert found.phases["evaluation"] == pytest.approx(2 * truth + (2 * 900 + blocks * 100) * one.forward)
    assert found.settings == 25
    assert found.cells == 1


@pytest.mark.parametrize("workers", [2, 3, 8, 40])
def test_workers_share_the_work_and_no_more(workers: int) -> None:
    alone, found = run(some_tasks(), 1), run(some_tasks(), workers)
    assert found.cells == alone.cells == len(some_tasks())
    assert found.makespan < alone.makespan
    assert found.makespan - START >= found.worker_seconds / workers
    assert found.makespan - START >= found.driver_seconds
    longest = sort_costs().train_seconds(scenario()) + 1000 * 0.002  # a victim, then importances of S_tr
    assert found.makespan - START > longest
    assert all(0 <= share <= 1 for share in found.busy)
    assert len(found.busy) == workers


def test_it_is_the_same_every_time() -> None:
    assert run(some_tasks(), 5) == run(some_tasks(), 5)


def test_settings_and_searches_are_those_asked_for() -> None:
    found = run(some_tasks(1), 1, costs_of(steps=steps_of(25)))
    assert found.settings == 12 * 25 + 2 * 50
    assert found.jobs["untreated"] == 4
    assert found.jobs["train"] == 4  # victim, clean, EU at two shares


def test_measured_steps_take_the_place_of_the_assumed() -> None:
    found = run([task(scenario(), 0.5)], 1, costs_of(steps={("ptn", "xlf", "sample"): 7.4}))
    assert found.settings == 7
    assert run([task(scenario(), 0.5)], 1, costs_of()).settings == 40


def test_coarse_steps_are_fewer() -> None:
    plain, coarse = (
        run([task(scenario(), 0.5, strategy=name)], 1, costs_of(steps=steps_of(80))).settings
        for name in ("plain", "coarse_fine")
    )
    assert plain == 80
    assert coarse < 25


def test_finished_cells_leave_their_models_and_importances() -> None:
    tasks = [task(scenario(), share) for share in (0.5, 1.0)]
    whole, rest = run(tasks, 1), run(tasks[1:], 1, finished=tasks[:1])
    assert "training" not in rest.phases
    assert rest.phases["importance"] == pytest.approx(5 * 0.1 + 50 * 0.002 + 5 * 2 * 0.01)
    assert rest.makespan < whole.makespan / 2


def test_nothing_to_do_takes_the_start() -> None:
    found = run([], 2)
    assert (found.makespan, found.worker_seconds, found.jobs) == (START, 0, {})


def test_large_sets_are_read_in_shards_by_many() -> None:
    large = costs_of(sort_costs(train_count=50_000))
    tasks = [task(scenario(), 0.5)]
    parts = large_sets(tasks, 50_000)
    assert sum(part.shard is not None for part in parts) == 13
    alone, many = (run(tasks, count, large, reference=False) for count in (1, 13))
    assert alone.jobs["importance"] == many.jobs["importance"] == 14
    assert alone.makespan - many.makespan > 50_000 * 0.002 * 0.8


def test_speculation_is_wasted_on_many_workers_only() -> None:
    tasks = [task(scenario(), 0.5)]
    slow = costs_of(sort_costs(setting={ForgetPass(512, "whole"): Line(fixed=1.0)}))
    alone, many = run(tasks, 1, slow), run(tasks, 8, slow)
    assert alone.settings == 40
    assert many.settings >= 40
    assert many.makespan < alone.makespan


def test_the_driver_bounds_what_many_workers_can_do() -> None:
    found = run(some_tasks(), 16, overhead=2.0)
    assert found.makespan >= START + 2.0 * sum(found.jobs.values())


def test_first_results_come_when_the_victim_is_there() -> None:
    found = run(some_tasks(), 2)
    assert found.first_result is not None
    assert START + sort_costs().train_seconds(scenario()) < found.first_result < found.makespan


def test_costs_of_earlier_runs_count() -> None:
    tasks, one = [task(scenario(), 0.5)], sort_costs()
    known = costs_of(replace(one, training=1.0, measured_setting={"ptn": 0.5}))
    found, plain = (run(tasks, 1, costs, reference=False) for costs in (known, costs_of(one)))
    assert found.phases["training"] == 1
    assert found.phases["search"] == pytest.approx(40 * 0.5)
    assert found.phases["importance"] == plain.phases["importance"]


def test_steps_with_scores_of_their_own_take_time() -> None:
    plain, scored = (run([task(scenario(), 0.5)], 1, scored_steps=count) for count in (0, 10))
    models = 10 + 15  # those of the search, and beyond the stop
    added = models * sort_costs().truth_seconds(scenario()) + 15 * (0.02 + 50 * 0.0003)
    assert scored.worker_seconds - plain.worker_seconds == pytest.approx(added)


def test_no_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        run(some_tasks(), 0)


def test_trainings_take_what_they_pass_forward_or_what_was_measured() -> None:
    settings = TuneSettings(method="rga", samples=6, compared=100, parameters={"steps": 50})
    cell = Cell(share=0.5, settings=settings)
    tasks = [Task(scenario=scenario(), cell=cell)]
    one = sort_costs()
    found = run(tasks, 1, reference=False)
    images = 3 * (50 + 128) * 50 + 50 * 5  # all 50 of S_f are less than a batch; every tenth step looks
    assert found.phases["search"] == pytest.approx(6 * images * one.forward)
    assert found.settings == 6
    measured = costs_of(replace(one, measured_setting={"rga": 2.0, "tpe": 100.0}))
    assert run(tasks, 1, measured, reference=False).phases["search"] == pytest.approx(12.0)
    together = cell.model_copy(update={"settings": settings.model_copy(update={"together": 3})})
    fast = [Task(scenario=scenario(), cell=together)]
    one_worker, three = (run(fast, workers, measured, reference=False).makespan for workers in (1, 3))
    assert one_worker - three == pytest.approx(8.0, rel=0.05), "six trainings of 2 s, in two rounds of three"
