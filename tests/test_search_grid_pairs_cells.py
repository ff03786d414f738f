"""A cell that is searched by Goel's grid, from training to rows, table and figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from theriac.errors import BadInput
from theriac.search.report.figures.tradeoff import tradeoff_figure
from theriac.search.report.table import searches_table
from theriac.search.settings import HealSettings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.results import ResultsStore
from theriac.search.sweep.cell_rows import CellRows
from theriac.search.sweep.cells import run_cell
from theriac.search.sweep.scenario import Cell, Scenario
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.training import Recipe

SMALL = Scenario(
    dataset="digits",
    model=ModelSpec(width=0.125),
    manipulated=100,
    recipe=Recipe(iterations=60, batch_size=128, learning_rate=0.1, augmentation="none"),
)
SCORES = ("clean_accuracy", "asr", "healed_raw")
# no lambda is 1, which tables leave out
GRID = Cell(share=0.2, settings=HealSettings(method="ssd", search="grid", alphas=(1e30, 50, 20, 5)))
NOTHING = Cell(share=0.2, settings=HealSettings(method="ssd", search="grid", alphas=(1e30,)))
PTN = Cell(share=0.2, settings=HealSettings(method="ssd"))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    return Experiment(SMALL, ArtifactStore(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def grid(experiment: Experiment) -> CellRows:
    return run_cell(experiment, GRID)


def test_a_grid_cell(experiment: Experiment, grid: CellRows):
    row, steps = grid.search, grid.steps
    assert row["status"] in ("stopped", "collapsed")
    assert (row["search"], row["method"], row["uses_oracle"]) == ("grid", "ssd", False)
    assert row.get("s") is None
    assert row["steps"] == len(steps) == 20
    best = max(steps, key=lambda step: step["score"])
    same = ("alpha", "dampening_constant", "dampened", "forget_accuracy", *SCORES)
    assert {name: row[name] for name in same} == {name: best[name] for name in same}
    assert row["healed_raw"] > row["healed_raw_before"]
    assert not any(step["after_stop"] for step in steps)
    victim = experiment.trained(Part("victim")).info["truth"]
    unchanged = next(step for step in steps if not step["dampened"])
    assert unchanged["clean_accuracy"] == victim["clean_accuracy"]


def test_no_pair_that_helps_is_no_stop_with_the_victims_scores(experiment: Experiment):
    row = run_cell(experiment, NOTHING).search
    assert row["status"] == "no_stop"
    assert (row["alpha"], row["dampening_constant"], row["dampened"], row["damage"]) == (None, None, 0, 0.0)
    assert row["asr"] == row["asr_before"]


def test_failures_say_which_search_it_was(experiment: Experiment):
    row = experiment.failed(GRID, BadInput("no luck"))
    assert (row["search"], row.get("dampening_constant")) == ("grid", None)
    assert row["key"] == experiment.key(GRID) != experiment.key(PTN)


def test_results_table_and_figure_take_both_searches(experiment: Experiment, grid: CellRows, tmp_path: Path):
    results = ResultsStore(tmp_path / "results")
    for rows in (grid, run_cell(experiment, PTN)):
        results.append("searches", [rows.search])
        results.append("steps", rows.steps)
    searches, steps = results.read("searches"), results.read("steps")
    crossed = {row["search"]: row["crossed"] for row in steps.to_pylist()}
    assert crossed[experiment.key(GRID)] is None
    assert crossed[experiment.key(PTN)] is not None
    assert None not in steps["dampening_constant"].to_pylist()
    table = searches_table(searches)
    assert "lambda" in [column.header for column in table.columns]
    assert [row["method_name"] for row in table.rows] == ["Grid-SSD", "PTN-SSD"]
    assert tradeoff_figure(steps, searches, tmp_path / "x.png").stat().st_size > 1000
