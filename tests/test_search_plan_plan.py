"""Plans: what a sweep will take, counted and measured."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from theriac.search.plan.costs import Costs, Line, Reading, ScenarioSort
from theriac.search.plan.measure import measure_costs
from theriac.search.plan.plan import SweepPlan, plan_sweep, refined
from theriac.search.plan.stand_in import stand_in
from theriac.search.plan.text import plan_json, plan_text, size
from theriac.search.settings import HealSettings
from theriac.search.sweep.files import Sweep, load_sweep

SWEEP = """
name: small
scenario: {preset: digits, model: {name: resnet9, width: 0.0625}}
seeds: [0, 1]
shares: [one_shot, 0.2]
methods: [none, eu, ssd, xlf]
granularities: [sample, batch]
searches: [ptn, grid]
settings_for:
  - {when: {granularities: batch}, set: {batch_size: 16}}
exclude:
  - {methods: xlf, searches: grid}
  - {granularities: batch, searches: grid}
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    path = tmp_path_factory.mktemp("sweep") / "small.yaml"
    path.write_text(SWEEP)
    return load_sweep(path)


@pytest.fixture(scope="module")
def costs(sweep: Sweep) -> Costs:
    return measure_costs(sweep.tasks(), seconds=0.5)


@pytest.fixture(scope="module")
def plan(sweep: Sweep, costs: Costs) -> SweepPlan:
    return plan_sweep(sweep, costs, workers=(1, 2, 4))


def rows_of(sweep: Sweep, **changes: Any) -> list[dict[str, Any]]:
    """Rows of the first scenario's cells: 10 steps of 2 s each, a victim of 50 s."""
    rows = []
    for task in sweep.tasks():
        if task.scenario == sweep.tasks()[0].scenario:
            cell = task.cell
            granularity = cell.dampening.granularity if cell.dampening else None
            rows.append(
                {
                    **{"key": task.key, "scenario": task.scenario.key, "status": "stopped"},
                    **{"method": cell.method, "granularity": granularity, "search": cell.search},
                    **{"steps": 10 if cell.search else None, "seconds_victim": 50.0},
                    **{"seconds_search": 20.0, "peak_memory": 9 << 40, **changes},
                }
            )
    return rows


def test_one_sort_of_scenario_is_measured_once(sweep: Sweep, costs: Costs) -> None:
    assert len({task.scenario for task in sweep.tasks()}) == 2
    assert list(costs.sorts) == [ScenarioSort.of(sweep.tasks()[0].scenario)]
    assert costs.device == "cpu"
    assert costs.device_memory is None


def test_measured_costs_are_positive_and_of_the_right_order(sweep: Sweep, costs: Costs) -> None:
    (one,) = costs.sorts.values()
    assert (one.train_count, one.test_count) == (1437, 360)
    assert one.importance_bytes == 8 * one.parameters
    assert 4 * one.parameters <= one.model_bytes < 5 * one.parameters
    seconds = [one.load, one.build, one.iteration, one.forward, one.store, one.read, one.problem]
    assert all(0 < value < 60 for value in seconds)
    assert one.iteration > one.forward  # of 128 images, with a backward pass
    assert 10 << 20 < costs.peak_memory < 1 << 40
    for line in (*one.importance.values(), *one.setting.values()):
        assert line.fixed >= 0
        assert line.each >= 0
        assert line.at(20) > 0


def test_every_reading_that_the_sweep_needs_is_measured(costs: Costs) -> None:
    (one,) = costs.sorts.values()
    assert set(one.importance) == {
        Reading(("fim",), "sample", "float32", 512),
        Reading(("lf", "xlf"), "sample", "float32", 512),
        Reading(("fim", "xlf"), "batch", "float32", 16),
    }
    both = one.reading_seconds(Reading(("fim", "xlf"), "batch", "float32", 16), 100)
    assert one.reading_seconds(Reading(("xlf",), "batch", "float32", 16), 100) == pytest.approx(both * 3 / 5)
    with pytest.raises(KeyError, match="no costs of"):
        one.reading_seconds(Reading(("xlf",), "batch", "float32", 64), 100)


def test_a_dataset_that_is_not_here_is_made_up_and_the_notes_say_so_once(tmp_path: Path) -> None:
    text = ["models=[{name: resnet9, width: 0.125}, {name: resnet9, width: 0.0625}]", "methods=[none]"]
    tasks = load_sweep("potion-table9-cifar100", [*text, "searches=[ptn]", "exclude=[]"]).tasks()
    found = measure_costs(tasks, data_root=tmp_path, seconds=0.01)
    assert {(one.train_count, one.test_count, one.classes) for one in found.sorts.values()} == {
        (50_000, 10_000, 100)
    }
    assert len([note for note in found.notes if "cifar100 is not on this machine" in note]) == 1


def test_what_is_made_up_has_the_published_numbers_and_sizes(tmp_path: Path) -> None:
    made = stand_in("gtsrb", root=tmp_path, image_size=None)
    assert (len(made.train), len(made.test), len(made.classes)) == (26_640, 12_630, 43)
    pixels = made.train.images(torch.arange(5))
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (5, 3, 32, 32))
    assert torch.equal(pixels, made.test.images(torch.arange(5)))
    assert stand_in("cifar10", root=tmp_path, image_size=None).shape == (3, 32, 32)
    assert stand_in("imagenet", root=tmp_path, image_size=64).shape == (3, 64, 64)


def test_small_batches_stand_for_large_ones_and_the_notes_say_so(sweep: Sweep) -> None:
    found = measure_costs(sweep.tasks()[-6:], seconds=1e-6)
    assert any("training measured with batches of 1 instead of 128" in note for note in found.notes)
    assert any("settings measured with 2 samples of S_f instead of 20" in note for note in found.notes)
    (one,) = found.sorts.values()
    assert one.iteration > 0


def test_the_plan_counts_what_is_to_do(plan: SweepPlan) -> None:
    assert (plan.cells, plan.finished, plan.victims) == (28, 0, 2)
    assert plan.trainings == {"victim": 2, "clean": 2, "retain": 4}
    # fim, lf and xlf of S_tr; fim and xlf of retain at two shares; 3 pieces of S_m up to 20 of 100
    assert plan.importances == {"S_tr": 6, "S_m pieces": 18, "retain": 8, "S_f": 8}
    assert plan.searches == {"ptn": 16, "grid": 4}
    assert plan.settings == {"ptn": 16 * 40, "grid": 4 * 50}


def test_the_plan_adds_up(plan: SweepPlan, costs: Costs) -> None:
    (one,) = costs.sorts.values()
    assert plan.disk.models == 8 * one.model_bytes
    assert plan.disk.importances == 40 * one.importance_bytes
    assert plan.disk.shards == 0
    assert plan.device_hours == pytest.approx(sum(plan.device_seconds.values()) / 3600)
    assert [scale.workers for scale in plan.scaling] == [1, 2, 4]
    assert plan.scaling[0].efficiency == 1
    assert all(scale.efficiency <= 1.001 for scale in plan.scaling)


def test_finished_cells_are_left_out(sweep: Sweep, costs: Costs, plan: SweepPlan) -> None:
    first = sweep.tasks()[0].scenario
    done = [task.key for task in sweep.tasks() if task.scenario == first]
    rest = plan_sweep(sweep, costs, finished=done, workers=(1,))
    assert (rest.cells, rest.finished, rest.victims) == (28, 14, 1)
    assert rest.trainings == {"victim": 1, "clean": 1, "retain": 2}
    assert rest.disk.importances == plan.disk.importances // 2
    assert 0.4 < rest.device_hours / plan.device_hours < 0.6


def test_what_finished_cells_left_is_not_made_again(sweep: Sweep, costs: Costs) -> None:
    """All but one cell: its victim is trained, and all importances are there."""
    tasks = sweep.tasks()
    last = next(task for task in reversed(tasks) if task.cell.search == "ptn")
    rest = plan_sweep(sweep, costs, finished={task.key for task in tasks} - {last.key}, workers=(1,))
    assert rest.trainings == {}
    assert set(rest.importances) <= {"retain", "S_f"}  # a batch importance is of its own share and kind
    assert rest.searches == {"ptn": 1}
    assert "importance" not in rest.device_seconds or last.cell.settings != HealSettings()


def test_a_finished_sweep_takes_nothing(sweep: Sweep, costs: Costs) -> None:
    rest = plan_sweep(sweep, costs, finished={task.key for task in sweep.tasks()}, workers=(2,))
    assert (rest.finished, rest.victims, rest.device_hours, rest.searches) == (28, 0, 0, {})
    assert "0 to compute of 28" in plan_text(rest)


def test_rows_of_earlier_runs_refine_the_costs(sweep: Sweep, costs: Costs) -> None:
    found = refined(costs, sweep.tasks(), rows_of(sweep))
    (one,) = found.sorts.values()
    assert one.training == 50
    assert one.measured_setting == {"ptn": 2, "grid": 2}
    sorts = itertools.product(("ssd", "xlf"), ("sample", "batch"))
    assert found.steps == {("ptn", method, granularity): 10 for method, granularity in sorts}
    assert found.peak_memory == 9 << 40
    assert plan_sweep(sweep, found, workers=(1,)).settings == {"ptn": 160, "grid": 200}


@pytest.mark.parametrize("changes", [{"status": "failed"}, {"scenario": "another"}])
def test_rows_that_say_nothing_change_nothing(sweep: Sweep, costs: Costs, changes: dict[str, Any]) -> None:
    assert refined(costs, sweep.tasks(), rows_of(sweep, **changes)) == costs


def test_actors_that_fit_on_a_gpu(sweep: Sweep, costs: Costs) -> None:
    gpu = Costs(sorts=costs.sorts, device="made up", device_memory=80 << 30, peak_memory=10 << 30)
    plan = plan_sweep(sweep, gpu, workers=(1,))
    assert plan.actors_per_gpu == 6
    assert "10 GB a worker; 6 fit on a GPU" in plan_text(plan)


def test_shards_take_room_for_a_while(sweep: Sweep, costs: Costs) -> None:
    sort, one = next(iter(costs.sorts.items()))
    values = {
        **vars(one),
        "train_count": 50_000,
        "importance": dict.fromkeys(one.importance, Line(each=1e-3)),
    }
    large = Costs(sorts={sort: type(one)(**values)}, device="cpu", peak_memory=1)
    plan = plan_sweep(sweep, large, workers=(1,))
    # 13 shards of: fim, lf and xlf of S_tr, fim and xlf of retain at two shares
    assert plan.disk.shards == 13 * 7 * one.importance_bytes


def test_the_text_says_it_all(plan: SweepPlan) -> None:
    text = plan_text(plan)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 160
    assert "28 to compute of 28, on 2 victims" in text
    assert "victim 2, clean 2, retain 4" in text
    assert "ptn about 640, grid about 200" in text
    (head,) = (number for number, line in enumerate(lines) if "wall clock" in line)
    assert [line.split()[0] for line in lines[head + 1 : head + 4]] == ["1", "2", "4"]
    assert len({len(line) for line in lines[head : head + 4]}) == 1
    assert "a PTN search stops after 40 steps" in text
    assert "a grid tries all its pairs" in text
    assert "guarded" not in text


def test_the_json_reads_back(plan: SweepPlan) -> None:
    assert json.loads(plan_json(plan))["cells"] == 28
    assert SweepPlan.model_validate_json(plan_json(plan)) == plan


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1536, "1.5 kB"), (1 << 30, "1 GB"), (5 << 43, "40 TB")]
)
def test_sizes(count: int, shown: str) -> None:
    assert size(count) == shown
