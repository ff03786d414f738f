"""`theriac.heal` by methods that train: on a user's own model and data, without any truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import TensorDataset

import theriac
from theriac.errors import BadInput
from theriac.search.heal import Healing
from theriac.tests.poisoned import accuracy_of, poisoned_digits

POISONED = poisoned_digits()
NPO: dict[str, Any] = {"method": "npo", "samples": 3, "parameters": {"steps": 60, "learning_rate": 3e-3}}


def heal(model: nn.Module | None = None, **overrides: Any) -> Healing:
    sets = {"forget": POISONED.found, "retain": POISONED.rest}
    return theriac.heal(model or POISONED.model, **{**sets, **overrides})


@pytest.fixture(scope="module")
def healing() -> Healing:
    return heal(**NPO)


def test_it_heals_and_reports(healing: Healing, tmp_path: Path):
    assert healing.status == "stopped"
    assert accuracy_of(healing.model, POISONED.triggered()) > accuracy_of(
        POISONED.model, POISONED.triggered()
    )
    assert accuracy_of(POISONED.model, POISONED.found) > 0.95, "the model that came in must stay as it is"
    assert healing.metrics["forget_accuracy"] == pytest.approx(accuracy_of(healing.model, POISONED.found))
    assert healing.metrics["forget_accuracy"] < 0.7
    assert (healing.alpha, healing.dampening_constant) == (None, None)
    assert healing.settings["parameters"]["steps"] == 60
    assert 0.1 <= healing.settings["parameters"]["beta"] <= 5, "found, not given"
    assert len(healing.trace) == healing.metrics["steps"] == 3
    folder = healing.save(tmp_path / "healed")
    saved = json.loads((folder / "healing.json").read_text())
    assert saved["settings"]["method"] == "npo"
    assert saved["metrics"]["agreement"] > 0.8
    stored = load_file(folder / "model.safetensors")
    assert all(torch.equal(stored[name], p) for name, p in healing.model.named_parameters())


def test_a_seed_gives_the_same_model(healing: Healing):
    again = heal(**NPO)
    pairs = zip(again.model.parameters(), healing.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_no_stop_gives_the_model_that_came_in():
    useless = heal(method="ga", search="tpe", samples=1, parameters={"steps": 1, "learning_rate": 1e-9})
    assert useless.status == "no_stop"
    pairs = zip(useless.model.parameters(), POISONED.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert useless.metrics["forget_accuracy"] == useless.metrics["forget_accuracy_before"]


def test_a_fixed_search_gives_what_it_made():
    found = heal(
        method="npo", search="fixed", parameters={"steps": 60, "learning_rate": 3e-3}, collapse_drop=0.9
    )
    assert found.status == "done"
    assert found.metrics["steps"] == 1


class WithStatistics(nn.Module):
    """A model with BatchNorm behind the poisoned one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = poisoned_digits().model
        self.norm = nn.BatchNorm1d(10, momentum=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.norm(self.inner(x))
        return logits


def test_statistics_of_the_candidate_come_with_its_weights():
    model = WithStatistics().eval()
    found = heal(
        model,
        method="npo",
        search="fixed",
        parameters={"steps": 60, "learning_rate": 3e-3, "batch_norm": "train"},
        collapse_drop=1.0,
        collapse_share=1.0,
        rho=0.9,
    )
    assert found.status == "done"
    healed = dict(found.model.named_buffers())
    assert model.norm.running_mean is not None
    assert not torch.equal(healed["norm.running_mean"], model.norm.running_mean)
    assert accuracy_of(found.model, POISONED.found) == pytest.approx(found.metrics["forget_accuracy"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"method": "ft"}, "ft needs images that are known to be clean"),
        ({"method": "rga", "objective": "oracle"}, "needs held-out truth"),
        ({"method": "rga", "alphas": (1.0,)}, "unknown setting 'alphas'"),
        ({"method": "rga", "parameters": {"learning_rate": -1}}, "learning_rate"),
        ({"method": "magic"}, "choose one of ssd, lf, xlf, cf"),
        ({"method": "rga", "mean": (0.5,)}, "give both mean and std"),
        ({"method": "rga", "forget": (POISONED.found[0] * 3, POISONED.found[1])}, "no pixels in"),
        ({"method": "rga", "forget": POISONED.rest, "retain": POISONED.found}, "exchanged"),
    ],
)
def test_what_cannot_be_used_is_said_before_any_work(wrong: dict, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("theriac.search.training.tuning.Tuning._run", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(BadInput, match=said):
        heal(**wrong)


def test_datasets_and_normalised_pictures_will_do():
    mean, std = 0.3, 0.4
    normalised = [((x - mean) / std, y) for x, y in (POISONED.found, POISONED.rest)]
    sets = {"forget": TensorDataset(*normalised[0]), "retain": normalised[1]}
    found = heal(nn.Sequential(Unnormalised(), POISONED.model), **sets, mean=[mean], std=[std], **NPO)
    assert found.metrics["forget_accuracy_before"] > 0.95
    assert found.status == "stopped"


class Unnormalised(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 0.4 + 0.3
