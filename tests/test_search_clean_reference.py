"""One model trained without S_m serves all attacks that draw the same S_m; each measures its own truth."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from theriac.datasets.attacks import Aim, Attack
from theriac.datasets.poisoning import draw_manipulated
from theriac.datasets.splits import HeldBack
from theriac.datasets.triggers import BadNets, Sine
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.sweep import victim_bench as experiment_module
from theriac.search.sweep.cells import run_cell
from theriac.search.sweep.scenario import Cell, Scenario
from theriac.search.sweep.victim_bench import Experiment, Part
from theriac.search.truth import Truth, measure_truth
from theriac.unlearning.models.build import ModelSpec
from theriac.unlearning.training import Recipe

SMALL = Scenario(
    dataset="digits",
    model=ModelSpec(width=0.125),
    manipulated=100,
    recipe=Recipe(iterations=40, batch_size=128, learning_rate=0.1, augmentation="none"),
)
NONE = Cell(share=0.2, baseline="none")


def of(attack: Attack, **changes: Any) -> Scenario:
    return SMALL.model_copy(update={"attack": attack, **changes})


SEVERAL = (Aim(trigger=BadNets(), target=1), Aim(trigger=Sine(), target=2))
SAME = {
    "badnets": Attack(),
    "another target": Attack(target=3),
    "another trigger": Attack(trigger=Sine()),
    "both": Attack(trigger=Sine(), target=5),
    "all to all": Attack(label_rule="all_to_all"),
    "all to all of others": Attack(label_rule="all_to_all", drawn_from="non_target"),
    "several": Attack(several=SEVERAL),
}
OTHERS = {
    "of others": Attack(drawn_from="non_target"),
    "of others, another target": Attack(drawn_from="non_target", target=3),
    "of others, several": Attack(drawn_from="non_target", several=SEVERAL),
}


def manipulated(attack: Attack, seed: int = 0) -> list[int]:
    labels = torch.arange(500) % 10
    return draw_manipulated(labels, attack, 50, seed).tolist()


@pytest.mark.parametrize("name", SAME)
def test_attacks_that_draw_over_all_classes_share_a_clean_model(name: str):
    assert of(SAME[name]).clean_key == SMALL.clean_key
    assert manipulated(SAME[name]) == manipulated(Attack())


def test_their_victims_are_others():
    assert len({of(attack).victim_key for attack in SAME.values()}) == len(SAME)


def test_a_draw_that_knows_the_target_has_a_clean_model_of_its_own():
    attacks = [Attack(), *OTHERS.values()]
    assert len({of(attack).clean_key for attack in attacks}) == len(attacks)
    assert len({tuple(manipulated(attack)) for attack in attacks}) == len(attacks)


def test_what_else_determines_a_clean_model():
    variants = [
        SMALL,
        of(Attack(target=3), seed=1),
        of(Attack(target=3), manipulated=50),
        of(Attack(target=3), model=ModelSpec(width=0.25)),
        of(Attack(target=3), recipe=Recipe(iterations=41)),
    ]
    assert len({scenario.clean_key for scenario in variants}) == len(variants)


def test_what_is_held_back_and_the_gate_play_no_part():
    assert of(Attack(), held_back=HeldBack(selection=50)).clean_key == SMALL.clean_key


def test_the_default_attack_keeps_the_key_its_model_always_had():
    assert SMALL.clean_key == SMALL.victim_key


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ArtifactStore:
    """With the clean model of the default attack."""
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    Experiment(SMALL, store).trained(Part("clean"))
    return store


def experiment(store: ArtifactStore, attack: Attack, **changes: Any) -> Experiment:
    return Experiment(of(attack, **changes), store)


@pytest.mark.parametrize("name", ["another target", "another trigger"])
def test_a_second_attack_reuses_the_stored_model_and_measures_its_own_truth(
    name: str, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
):
    first, second = Experiment(SMALL, store), experiment(store, SAME[name])
    second.trained(Part("victim"))

    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(experiment_module, "train_from_scratch", refuse)
    stored = second.trained(Part("clean"))
    assert stored.state_dict().keys() == first.trained(Part("clean")).state_dict().keys()
    truth = measure_truth(second.model(stored), second.data)
    assert truth != Truth(**stored.info["truth"])
    row = run_cell(second, NONE).search
    assert row["healed"] == pytest.approx(100 * row["healed_raw"] / truth.healed_raw)


def test_the_model_and_its_truth_are_those_it_would_have_trained_itself(store: ArtifactStore, tmp_path):
    shared = experiment(store, SAME["both"])
    own = Experiment(of(SAME["both"]), ArtifactStore(tmp_path))
    weights = [one.trained(Part("clean")).state_dict() for one in (shared, own)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    found = own.trained(Part("clean")).info["truth"]
    assert measure_truth(shared.model(shared.trained(Part("clean"))), shared.data) == Truth(**found)


def test_what_is_held_back_is_not_counted_in_the_shared_models_truth(store: ArtifactStore):
    holding = experiment(store, Attack(), held_back=HeldBack(selection=100))
    holding.trained(Part("victim"))
    row = run_cell(holding, NONE).search
    truth = measure_truth(holding.model(holding.trained(Part("clean"))), holding.data)
    assert truth != Truth(**holding.trained(Part("clean")).info["truth"])
    assert row["healed"] == pytest.approx(100 * row["healed_raw"] / truth.healed_raw)


def test_a_draw_of_its_own_trains_its_own(store: ArtifactStore, monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(experiment_module, "train_from_scratch", refuse)
    with pytest.raises(AssertionError, match="trained again"):
        experiment(store, OTHERS["of others"]).trained(Part("clean"))
    with pytest.raises(AssertionError, match="trained again"):
        experiment(store, SAME["another target"], seed=1).trained(Part("clean"))


def test_the_samples_of_the_shared_model_are_the_same(store: ArtifactStore):
    data = {name: experiment(store, attack).data for name, attack in SAME.items()}
    positions = {name: tuple(one.clean_train().positions.tolist()) for name, one in data.items()}
    assert len(set(positions.values())) == 1
