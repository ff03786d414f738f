"""Methods that train, as cells of an experiment: what they are given, what is reported, what is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from theriac.datasets.splits import HeldBack
from theriac.datasets.views import View
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.results import ResultsStore
from theriac.search.sweep.cell_rows import CellRows
from theriac.search.sweep.cells import run_cell
from theriac.search.sweep.scenario import Cell, Gate, Scenario, Scoring
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.search.training import parameters as methods
from theriac.search.training.settings import TuneSettings
from theriac.search.training.tuning import Tuning
from theriac.unlearning.methods.fine_tuning import FineTuneOnClean
from theriac.unlearning.methods.gradient_ascent import NPO, GradientAscent
from theriac.unlearning.methods.unlearner import Known, Run
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.training import Recipe, TrainingDiverged

SMALL = Scenario(
    dataset="digits",
    model=ModelSpec(width=0.125),
    manipulated=100,
    recipe=Recipe(iterations=60, batch_size=128, learning_rate=0.1, augmentation="none"),
    held_back=HeldBack(clean=120, selection=90),
)
FEW = {"steps": 30, "record_every": 15}


def cell(**settings: Any) -> Cell:
    return Cell(share=0.5, settings=TuneSettings(**{"samples": 3, "compared": 300, **settings}))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def experiment(store: ArtifactStore) -> Experiment:
    return Experiment(SMALL, store, scoring=Scoring(steps=1))


@pytest.fixture(scope="module")
def ga(experiment: Experiment) -> CellRows:
    return run_cell(experiment, cell(method="ga", parameters=FEW))


def test_a_searched_cell(experiment: Experiment, ga: CellRows):
    row = ga.search
    assert (row["method"], row["search"], row["granularity"]) == ("ga", "tpe", None)
    assert row["status"] in ("stopped", "collapsed")
    assert (row["objective"], row["uses_oracle"], row["steps"]) == ("deployable", False, 3)
    chosen = next(step for step in ga.steps if step["parameters"] == row["parameters"])
    for name in ("clean_accuracy", "healed_raw", "asr", "forget_accuracy", "score", "lfr"):
        assert chosen[name] == row[name], name
    assert row["seconds_search"] == pytest.approx(sum(step["seconds"] for step in ga.steps))
    trace = json.loads(chosen["trace"])
    assert [one["step"] for one in trace] == [15, 30]
    assert trace[-1]["healed_raw"] == pytest.approx(row["healed_raw"])
    assert len(trace[0]["lfr"]) == 10


def test_rows_fit_the_results(experiment: Experiment, ga: CellRows, tmp_path):
    results = ResultsStore(tmp_path)
    results.append("searches", [ga.search])
    results.append("steps", ga.steps)
    assert results.read("searches").to_pylist()[0]["parameters"] == ga.search["parameters"]
    steps = sorted(results.read("steps").to_pylist(), key=lambda row: row["step"])
    assert [step["trace"] for step in steps] == [step["trace"] for step in ga.steps]
    assert steps[0]["pareto"] is None


def test_what_is_given_away_is_not_reported_on(experiment: Experiment, ga: CellRows):
    data = experiment.data
    parts = [data.test(), data.clean_test(), *data.selection()[:1]]
    positions = torch.cat([view.positions for view in parts])
    assert len(positions.unique()) == len(positions) == len(data.dataset.test)
    assert ga.search["clean_accuracy_before"] == pytest.approx(
        experiment.truth(Part("victim")).clean_accuracy
    )
    whole = Experiment(SMALL.model_copy(update={"held_back": HeldBack()}), experiment.store)
    assert whole.trained(Part("victim")).weights == experiment.trained(Part("victim")).weights
    assert whole.truth(Part("victim")) != experiment.truth(Part("victim"))
    assert len(whole.data.test()) == len(positions)


def test_an_oracle_is_marked_and_shares_the_runs(
    experiment: Experiment, ga: CellRows, monkeypatch: pytest.MonkeyPatch
):
    runs: list = []
    judged = Tuning._judged

    def counted(self: Tuning, parameters: dict) -> dict:
        runs.append(parameters)
        return judged(self, parameters)

    monkeypatch.setattr(Tuning, "_judged", counted)
    rows = run_cell(experiment, cell(method="ga", parameters=FEW, objective="oracle"))
    assert rows.search["uses_oracle"] is True
    sound = [step["score"] for step in rows.steps if step["status"] != "collapsed"]
    assert rows.search["score"] == max(sound or [step["score"] for step in rows.steps])
    assert runs == [], "the first settings of all samplers with one seed are the same"
    chosen = next(step for step in rows.steps if step["score"] == rows.search["score"])
    assert chosen["score"] == pytest.approx(
        chosen["selection_clean_accuracy"] + chosen["selection_healed_raw"]
    )


def test_a_front_is_in_the_rows(experiment: Experiment):
    rows = run_cell(experiment, cell(method="rga", parameters=FEW, pareto=True))
    front = [step for step in rows.steps if step["pareto"]]
    assert front
    assert any(step["parameters"] == rows.search["parameters"] for step in front) or (
        rows.search["parameters"] is None
    )


def test_cf_trains_on_with_the_recipe_of_the_victim(experiment: Experiment):
    rows = run_cell(experiment, _fixed("cf"))
    recipe = json.loads(rows.search["parameters"])
    assert recipe == SMALL.recipe.model_dump(mode="json")
    assert rows.search["status"] in ("done", "collapsed")
    assert rows.search["asr"] > 0.3, "the undiscovered half of the poison keeps the trigger alive"
    assert rows.search["search"] == "fixed"
    assert rows.search["objective"] is None


def _fixed(method: str, **parameters: Any) -> Cell:
    return Cell(
        share=0.5,
        settings=TuneSettings(method=method, search="fixed", parameters=parameters, compared=300),
    )


def test_clean_images_reach_the_method_that_needs_them(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
):
    given: list[Known] = []
    real = FineTuneOnClean._unlearn

    def noticed(self: FineTuneOnClean, model: nn.Module, known: Known, run: Run) -> None:
        given.append(known)
        real(self, model, known, run)

    monkeypatch.setattr(FineTuneOnClean, "_unlearn", noticed)
    rows = run_cell(experiment, _fixed("ft", epochs=2, augmentation="none", learning_rate=0.05))
    (known,), data = given, experiment.data
    sets = {"clean": data.clean_test(), "forget": data.forget(0.5), "retain": data.retain(0.5)}
    for view, expected in zip((known.clean, known.forget, known.retain), sets.values(), strict=True):
        assert isinstance(view, View)
        assert torch.equal(view.positions, expected.positions)
        assert torch.equal(view.labels, expected.labels)
    assert torch.equal(sets["clean"].labels, sets["clean"].true_labels)
    assert not sets["clean"].triggered.any()
    assert rows.search["status"] in ("done", "collapsed")
    trace = json.loads(rows.steps[0]["trace"])
    assert [one["phase"] for one in trace] == ["fine_tuning"] * 2
    assert trace[1]["loss"] < 1.0


def test_a_cell_whose_runs_all_fail_says_why(experiment: Experiment, monkeypatch: pytest.MonkeyPatch):
    def diverges(*_: object) -> None:
        raise TrainingDiverged("the loss is nan")

    monkeypatch.setattr(GradientAscent, "_unlearn", diverges)
    rows = run_cell(experiment, cell(method="ga", parameters={"steps": 7}))
    assert (rows.search["status"], rows.search["error_class"]) == ("failed", "AllFailed")
    assert rows.search["error_message"] == "TrainingDiverged: the loss is nan"
    assert rows.search["parameters"] is None
    assert [step["status"] for step in rows.steps] == ["failed"] * 3
    monkeypatch.undo()
    again = run_cell(experiment, cell(method="ga", parameters={"steps": 7}))
    assert again.search["status"] != "failed", "a failure must not be kept"


def test_a_default_that_changes_makes_another_trial(experiment: Experiment, monkeypatch: pytest.MonkeyPatch):
    known = _fixed("npo", steps=5)
    first, again = run_cell(experiment, known), run_cell(experiment, known)
    assert first.steps == again.steps, "the same seconds: it was kept"
    changed = NPO(steps=5, weight_decay=0.125)
    monkeypatch.setattr(methods, "unlearner", lambda method, parameters: changed)
    assert run_cell(experiment, known).steps[0]["seconds"] != first.steps[0]["seconds"]


def test_a_victim_that_fails_its_gate_is_not_trained_on(experiment: Experiment):
    untaught = SMALL.recipe.model_copy(update={"iterations": 1, "learning_rate": 1e-9})
    strict = SMALL.model_copy(update={"recipe": untaught, "gate": Gate(clean_accuracy=1.0)})
    rows = run_cell(Experiment(strict, experiment.store), cell(method="ga"))
    assert rows.search["status"] == "gate_failed"
    assert rows.steps == []


def test_keys_of_what_holds_nothing_back_are_those_of_before():
    bare = SMALL.model_copy(update={"held_back": HeldBack()})
    assert "held_back" not in bare.model_dump(mode="json")
    assert bare.key == bare.victim_key == SMALL.victim_key != SMALL.key
    assert Scenario.model_validate_json(SMALL.model_dump_json()) == SMALL
