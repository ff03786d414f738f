"""A small scenario from training to rows, and what may not happen twice."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from theriac.datasets.poisoning import Attack
from theriac.errors import BadInput
from theriac.search.settings import HealSettings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.store.results import ResultsStore
from theriac.search.sweep import victim_bench as experiment_module
from theriac.search.sweep.cell_rows import CellRows
from theriac.search.sweep.cells import run_cell
from theriac.search.sweep.dampening_cell import STEPS_AFTER_STOP
from theriac.search.sweep.scenario import PRESETS, Cell, Gate, Scenario, Scoring
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.search.truth import measure_truth
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.training import Recipe

SMALL = Scenario(
    dataset="digits",
    model=ModelSpec(width=0.125),
    manipulated=100,
    recipe=Recipe(iterations=60, batch_size=128, learning_rate=0.1, augmentation="none"),
)
XLF = Cell(share=0.2, settings=HealSettings(method="xlf"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    return ArtifactStore(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def experiment(store: ArtifactStore) -> Experiment:
    return Experiment(SMALL, store)


@pytest.fixture(scope="module")
def xlf_rows(experiment: Experiment) -> CellRows:
    return run_cell(experiment, XLF)


def without_timings(row: dict) -> dict:
    return {name: value for name, value in row.items() if "seconds" not in name and name != "peak_memory"}


def test_a_dampening_cell(experiment: Experiment, xlf_rows: CellRows):
    row, steps = xlf_rows.search, xlf_rows.steps
    victim = experiment.trained(Part("victim")).info["truth"]
    clean = experiment.trained(Part("clean")).info["truth"]
    assert row["status"] in ("stopped", "collapsed")
    assert row["discovered"] == 20
    assert row["damage"] == pytest.approx(100 * (row["clean_accuracy"] - victim["clean_accuracy"]))
    assert row["healed"] == pytest.approx(100 * row["healed_raw"] / clean["healed_raw"])
    assert row["healed_raw"] > row["healed_raw_before"] == victim["healed_raw"]
    assert row["forget_accuracy"] <= 0.2 * row["forget_accuracy_before"]
    assert len(row["lfr"]) == 10
    assert row["uses_oracle"] is False
    searched = [step for step in steps if not step["after_stop"]]
    assert len(searched) == row["steps"]
    assert 0 < len(steps) - len(searched) <= STEPS_AFTER_STOP
    chosen = next(step for step in searched if step["crossed"])
    assert {name: chosen[name] for name in ("alpha", "s", "clean_accuracy", "healed_raw", "asr")} == {
        name: row[name] for name in ("alpha", "s", "clean_accuracy", "healed_raw", "asr")
    }


def test_rows_fit_the_results_and_the_keys_are_stable(experiment: Experiment, xlf_rows: CellRows, tmp_path):
    results = ResultsStore(tmp_path)
    for _ in range(2):
        results.append("searches", [xlf_rows.search])
        results.append("steps", xlf_rows.steps)
    assert results.read("searches").num_rows == 1
    assert results.read("steps").num_rows == len(xlf_rows.steps)
    assert results.read("searches")["key"].to_pylist() == [experiment.key(XLF)]


def test_a_cell_is_reproducible_from_the_scenario_alone(xlf_rows: CellRows, tmp_path):
    fresh = run_cell(Experiment(SMALL, ArtifactStore(tmp_path)), XLF)
    assert without_timings(fresh.search) == without_timings(xlf_rows.search)
    assert list(map(without_timings, fresh.steps)) == list(map(without_timings, xlf_rows.steps))


def test_nothing_is_trained_twice(xlf_rows: CellRows, store: ArtifactStore, monkeypatch):
    cell = Cell(share=0.2, baseline="none")

    def refuse(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(experiment_module, "train_from_scratch", refuse)
    run_cell(Experiment(SMALL, store), cell)
    with pytest.raises(AssertionError, match="trained again"):
        run_cell(Experiment(SMALL.model_copy(update={"seed": 1}), store), cell)


def test_baselines(experiment: Experiment):
    none = run_cell(experiment, Cell(share=0.2, baseline="none")).search
    eu = run_cell(experiment, Cell(share=0.2, baseline="eu")).search
    assert (none["damage"], none["asr"], none["status"]) == (0.0, none["asr_before"], "done")
    trained = experiment.trained(Part("retain", 0.2))
    assert eu["asr"] == trained.info["truth"]["asr"]
    assert eu["seconds_search"] == trained.info["seconds"] > 0
    assert eu["healed_raw"] < 0.5, "retraining with 80 of 100 poisoned samples left brings the trigger back"


def test_a_stored_model_scores_as_recorded(experiment: Experiment):
    stored = experiment.trained(Part("victim"))
    truth = measure_truth(experiment.model(stored), experiment.data)
    assert truth.__dict__ == stored.info["truth"]


def test_without_the_reference_healed_stays_empty(store: ArtifactStore):
    experiment = Experiment(SMALL, store, scoring=Scoring(reference=False))
    row = run_cell(experiment, Cell(share=0.2, baseline="none")).search
    assert row["healed"] is None
    assert row["healed_raw"] is not None


def test_the_stop_alone_is_scored_on_request(xlf_rows: CellRows, store: ArtifactStore):
    rows = run_cell(Experiment(SMALL, store, scoring=Scoring(steps=0)), XLF)
    assert without_timings(rows.search) == without_timings(xlf_rows.search)
    searched = [step for step in xlf_rows.steps if not step["after_stop"]]
    assert [step["alpha"] for step in rows.steps] == [step["alpha"] for step in searched]
    assert all("clean_accuracy" not in step for step in rows.steps)
    assert all("clean_accuracy" in step for step in searched)


def test_no_stop_rows_carry_the_victims_scores(experiment: Experiment):
    row = run_cell(experiment, Cell(share=0.2, settings=HealSettings(max_steps=1))).search
    assert row["status"] == "no_stop"
    assert (row["alpha"], row["s"], row["dampened"], row["damage"]) == (None, None, 0, 0.0)
    assert row["asr"] == row["asr_before"]


def test_a_failed_gate_is_a_row_without_scores(store: ArtifactStore):
    recipe = SMALL.recipe.model_copy(update={"iterations": 1, "learning_rate": 1e-9})
    untaught = SMALL.model_copy(update={"recipe": recipe})
    strict = untaught.model_copy(update={"gate": Gate(clean_accuracy=1.0)})
    assert strict.key == untaught.key, "the gate judges a victim, it does not change it"
    rows = run_cell(Experiment(strict, store), XLF)
    assert rows.search["status"] == "gate_failed"
    assert "gate 100.0%" in rows.search["error_message"]
    assert "healed_raw" not in rows.search
    assert not rows.steps


def test_failures_become_rows(experiment: Experiment):
    row = experiment.failed(XLF, BadInput("no luck"))
    assert (row["status"], row["error_class"], row["error_message"]) == ("failed", "BadInput", "no luck")
    assert row["key"] == experiment.key(XLF)


def test_one_shot_and_batch_granularity_run(experiment: Experiment):
    settings = HealSettings(method="lf", granularity="batch", batch_size=64)
    row = run_cell(experiment, Cell(share="one_shot", settings=settings)).search
    assert (row["discovered"], row["share"], row["granularity"]) == (1, "one_shot", "batch")
    assert row["forget_accuracy_before"] in (0.0, 1.0)


def test_scenarios_hash_everything_that_determines_a_victim():
    variants = [
        SMALL,
        SMALL.model_copy(update={"seed": 1}),
        SMALL.model_copy(update={"manipulated": 50}),
        SMALL.model_copy(update={"model": ModelSpec(width=0.25)}),
        SMALL.model_copy(update={"attack": Attack(target=3)}),
        SMALL.model_copy(update={"recipe": Recipe(iterations=61)}),
    ]
    assert len({scenario.key for scenario in variants}) == len(variants)
    assert Scenario.model_validate_json(SMALL.model_dump_json()) == SMALL
    assert Scenario.model_validate_json(SMALL.model_dump_json()).key == SMALL.key


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name: str):
    preset = PRESETS[name]
    assert Scenario.model_validate_json(preset.model_dump_json()).key == preset.key


@pytest.mark.parametrize(
    "wrong",
    [
        {"share": 0.2},
        {"share": 0.2, "baseline": "eu", "settings": {}},
        {"share": 0.0, "baseline": "eu"},
        {"share": 1.5, "baseline": "eu"},
        {"share": "two_shot", "baseline": "eu"},
        {"share": 0.2, "baseline": "magic"},
        {"share": 0.2, "settings": {"rh": 1}},
    ],
)
def test_cells_validate_themselves(wrong: dict):
    with pytest.raises(ValidationError):
        Cell.model_validate(wrong)


def test_scenarios_refuse_unknown_keys():
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Scenario.model_validate({"dataset": "digits", "manipulated": 5, "atack": {}})


def test_the_clean_model_in_place_of_the_victim_is_named_and_the_victim_trained_again(
    experiment: Experiment, tmp_path, caplog
):
    """Sealed anew under the victim's key, as no accident could: what the entry says of itself tells."""
    victim, clean = (experiment.trained(Part(name)) for name in ("victim", "clean"))
    own = ArtifactStore(tmp_path)
    mixed = Experiment(SMALL, own)
    own.put(mixed._model_key(Part("victim")), clean.state_dict(), clean.info)
    again = mixed.trained(Part("victim"))
    assert "it is not the victim model of this scenario" in caplog.text
    assert again.info["part"] == victim.info["part"]
    assert again.info["truth"]["asr"] == pytest.approx(victim.info["truth"]["asr"], abs=0.05)


def test_trials_of_another_victim_do_not_count(tmp_path, caplog):
    own = ArtifactStore(tmp_path)
    own.put_trial("a", {"score": 1.0}, victim="old")
    assert own.find_trial("a", victim="old") == own.find_trial("a") == {"score": 1.0}
    assert own.find_trial("a", victim="new") is None
    assert "made of another victim" in caplog.text
    own.put_trial("a", {"score": 2.0}, victim="new")
    assert own.find_trial("a", victim="new") == {"score": 2.0}
