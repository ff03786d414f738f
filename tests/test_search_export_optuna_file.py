"""Searches become studies that Optuna opens: values, states, places and truth of every trial."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from theriac.errors import BadInput
from theriac.search.export import exported
from theriac.search.store import ResultsStore
from theriac.tests.exported_results import TRIALS, pairs, ptn, step_rows, stored, tuned

COMPLETE, PRUNED, FAIL = (
    optuna.trial.TrialState.COMPLETE,
    optuna.trial.TrialState.PRUNED,
    optuna.trial.TrialState.FAIL,
)


def studies(folder: Path, *searches: Any, results: Path | None = None) -> dict[str, optuna.Study]:
    """Method and search -> the study, as Optuna loads it from the file."""
    file = folder / "studies.db"
    exported([results or stored(folder / "results", *searches)], "optuna", file)
    url = f"sqlite:///{file}"
    loaded = [optuna.load_study(study_name=n, storage=url) for n in optuna.get_all_study_names(url)]
    return {f"{one.user_attrs['method']} {one.user_attrs['search']}": one for one in loaded}


def test_a_tuned_method_is_a_study(tmp_path: Path) -> None:
    row, steps = tuned()
    (study,) = studies(tmp_path, (row, steps), ptn()).values()
    assert (
        study.study_name == f"digits, resnet9, badnets, |S_m| 100, share 0.5, ga, tpe, seed 0, {row['key']}"
    )
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert [trial.state for trial in study.trials] == [COMPLETE, COMPLETE, PRUNED, FAIL]
    assert [trial.values for trial in study.trials] == [*([s["score"]] for s in steps[:3]), None]
    assert [trial.params["steps"] for trial in study.trials] == [100, 50, 200, 300]
    assert study.trials[0].distributions == {
        "learning_rate": optuna.distributions.FloatDistribution(1e-5, 1e-3, log=True),
        "steps": optuna.distributions.IntDistribution(20, 300, log=True),
    }
    assert study.best_trial.number == 1, "a collapsed trial is better, and may not be taken"
    assert study.best_trial.user_attrs["taken"] is True
    assert study.best_params == {"learning_rate": 2e-4, "steps": 50}
    assert study.metric_names == ["score"]


def test_truth_is_marked_and_times_are_those_measured(tmp_path: Path) -> None:
    (study,) = studies(tmp_path, tuned()).values()
    first, second, _, last = study.trials
    assert first.user_attrs["truth: healed_raw"] == 0.7
    assert second.user_attrs["truth: selection_healed_raw"] == 0.6
    assert first.user_attrs["forget_accuracy"] == 0.6
    assert first.user_attrs["not searched"] == {"momentum": 0.0}
    assert last.user_attrs["error_message"] == "NaN"
    assert study.user_attrs["truth: healed"] == 96.0
    assert "did not see" in study.user_attrs["about"]
    assert not {"healed_raw", "clean_accuracy", "asr"} & (set(first.user_attrs) | set(study.user_attrs))
    assert first.duration is not None
    assert first.duration.total_seconds() == 2.5


def test_what_an_oracle_saw_is_not_marked(tmp_path: Path) -> None:
    row, steps = tuned(objective="oracle", pareto=True)
    seen = {"selection_healed_raw": 0.6, "selection_clean_accuracy": 0.9}
    (study,) = studies(tmp_path, (row, [{**step, **seen} for step in steps])).values()
    assert study.metric_names == ["selection_healed_raw", "selection_clean_accuracy"]
    assert study.trials[0].values == [0.6, 0.9]
    assert study.trials[0].user_attrs["selection_healed_raw"] == 0.6
    assert study.trials[0].user_attrs["truth: healed_raw"] == 0.7


def test_a_pareto_search_has_both_parts(tmp_path: Path) -> None:
    (study,) = studies(tmp_path, tuned("rga", pareto=True)).values()
    assert len(study.directions) == 2
    assert study.trials[1].values == pytest.approx([0.0, -0.03])
    assert study.trials[0].values == pytest.approx([-0.4, -0.01])
    assert [trial.number for trial in study.best_trials] == [0, 1]


@pytest.mark.parametrize("search", ["grid", "tpe"])
def test_pairs_are_a_study(tmp_path: Path, search: str) -> None:
    found = studies(tmp_path, pairs(search), ptn())
    assert list(found) == [f"ssd {search}"]
    study = found[f"ssd {search}"]
    assert [trial.params for trial in study.trials] == [
        {"alpha": 10.0, "relative_lambda": 5.0},
        {"alpha": 10.0, "relative_lambda": 0.1},
        {"alpha": 0.3, "relative_lambda": 0.5},
    ]
    assert (study.best_trial.number, study.best_value) == (2, 0.9)
    assert study.best_trial.user_attrs["taken"] is True
    assert study.best_trial.user_attrs["dampening_constant"] == 0.15
    distribution = study.trials[0].distributions["alpha"]
    assert distribution == optuna.distributions.FloatDistribution(0.1, 1e6, log=True)


def test_settings_of_another_version_are_no_obstacle(tmp_path: Path) -> None:
    row, steps = tuned("rga", pareto=True)
    mixed = [{**steps[0], "parameters": json.dumps({"kind": "a", "size": [1, 2]})}]
    mixed += [{**steps[1], "parameters": json.dumps({"kind": None, "size": [3]})}]
    (study,) = studies(tmp_path, ({**row, "settings": '{"gone": 1}'}, mixed)).values()
    assert [trial.values for trial in study.trials] == [[s["score"]] for s in mixed]
    assert study.trials[0].params == {"kind": "a", "size": "[1, 2]"}
    row, steps = pairs("grid")
    found = studies(tmp_path / "more", ({**row, "settings": None}, steps))
    expected = optuna.distributions.FloatDistribution(0.3, 10.0)
    assert found["ssd grid"].trials[0].distributions["alpha"] == expected


def test_values_outside_the_space_widen_it(tmp_path: Path) -> None:
    row, steps = tuned()
    far = {**steps[0], "parameters": json.dumps({"learning_rate": 5.0, "steps": 60.5})}
    (study,) = studies(tmp_path, (row, [far, *steps[1:]])).values()
    assert study.trials[0].params == {"learning_rate": 5.0, "steps": 60.5}
    assert study.best_trial.number == 1


def test_only_the_newest_search_and_its_own_steps_count(tmp_path: Path) -> None:
    row, steps = tuned()
    results = stored(tmp_path / "results", (row, steps))
    again = {**row, "steps": 2, "status": "no_stop", "parameters": None}
    stored(results, (again, step_rows(row, *TRIALS[1::-1])))
    (study,) = studies(tmp_path, results=results).values()
    assert [trial.params["steps"] for trial in study.trials] == [50, 100]
    assert study.user_attrs["status"] == "no_stop"
    assert not any("taken" in trial.user_attrs for trial in study.trials)


def test_several_folders_are_one_file_and_the_newest_rows_count(tmp_path: Path) -> None:
    row, steps = tuned()
    old = stored(tmp_path / "old", (row, [{**steps[0], "score": -9.0}, *steps[1:]]), pairs("grid"))
    new = stored(tmp_path / "new", (row, steps))
    for number, folders in enumerate([(old, new), (new, old)]):
        said = exported(folders, "optuna", tmp_path / f"{number}.db")
        assert "2 studies, 7 trials" in said
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        (name,) = (one for one in optuna.get_all_study_names(url) if row["key"] in one)
        assert optuna.load_study(study_name=name, storage=url).trials[0].values == [steps[0]["score"]]


def test_a_name_that_a_url_cannot_hold(tmp_path: Path) -> None:
    results = stored(tmp_path / "results", tuned())
    odd = tmp_path / "a?b %7B{x}# é"
    odd.mkdir()
    exported([results], "optuna", odd / "s?.db")
    assert [one.name for one in odd.iterdir()] == ["s?.db"]
    assert (odd / "s?.db").read_bytes().startswith(b"SQLite format 3")


def test_without_trials_it_says_which_searches_have_them(tmp_path: Path) -> None:
    results = stored(tmp_path / "results", ptn())
    with pytest.raises(BadInput, match=r"only the searches grid, tpe, fixed have them.*here are: ptn"):
        exported([results], "optuna", tmp_path / "s.db")
    assert [one.name for one in tmp_path.iterdir()] == ["results"]


def test_a_search_that_failed_before_any_trial_is_left_out(tmp_path: Path) -> None:
    row, _ = tuned()
    failed = {**row, "status": "failed", "score": None, "parameters": None, "steps": None}
    results = stored(tmp_path / "results", (failed, []), pairs("tpe"))
    assert "1 study, 3 trials" in exported([results], "optuna", tmp_path / "s.db")
    assert ResultsStore(results).read("searches").num_rows == 2
