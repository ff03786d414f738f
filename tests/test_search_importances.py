"""Importances of all discovery shares from one reading of the training set."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from theriac.datasets.poisoning import Attack, PoisonedData, Share
from theriac.datasets.sources import load_dataset
from theriac.search import importances as importances_module
from theriac.search.artifacts import ArtifactStore
from theriac.search.importances import VictimImportances, piece_bounds
from theriac.search.settings import HealSettings
from theriac.unlearning.importance import Importance, estimate_importance, estimate_importances
from theriac.unlearning.models import ModelSpec, create_model

MANIPULATED = 20
SHARES: tuple[Share, ...] = ("one_shot", 0.1, 0.25, 0.5, 1.0)


@pytest.fixture(scope="module")
def data() -> PoisonedData:
    dataset = load_dataset("digits")
    return PoisonedData(
        dataset=dataset, attack=Attack(), manipulated=MANIPULATED, seed=0, device=torch.device("cpu")
    )


@pytest.fixture(scope="module")
def victim() -> torch.nn.Module:
    return create_model(ModelSpec(width=0.05), num_classes=10, shape=(1, 16, 16), seed=3).eval()


@pytest.fixture
def importances(data: PoisonedData, victim: torch.nn.Module, tmp_path: Path) -> VictimImportances:
    return VictimImportances(data, lambda: victim, "victim", ArtifactStore(tmp_path))


def close(a: Importance, b: Importance) -> bool:
    largest = {name: float(b.total[name].max()) for name in b.total}
    return all(
        torch.allclose(a.total[name], b.total[name], rtol=1e-5, atol=1e-6 * largest[name]) for name in a.total
    )


def test_the_bounds_of_the_pieces():
    assert piece_bounds(500, 1) == [0, 1]
    assert piece_bounds(500, 125) == [0, 1, 50, 100, 125]
    assert piece_bounds(500, 500) == [0, 1, *range(50, 501, 50)]
    assert piece_bounds(3, 3) == [0, 1, 2, 3]
    assert piece_bounds(1, 1) == [0, 1]


@pytest.mark.parametrize("granularity", ["sample", "batch"])
@pytest.mark.parametrize("share", SHARES)
def test_they_are_those_of_forget_and_retain(importances, data, victim, granularity, share):
    settings = HealSettings(method="xlf", granularity=granularity, batch_size=300)
    forget, retain = importances.of(share, settings).pair
    for found, view in ((forget, data.forget(share)), (retain, data.retain(share))):
        direct = estimate_importance(victim, view.batched(300), kind="xlf", granularity=granularity)
        assert (found.count, found.data, found.model) == (direct.count, direct.data, direct.model)
        assert close(found, direct)


def test_the_order_in_which_shares_are_asked_for_does_not_matter(data, victim, tmp_path):
    settings = HealSettings(method="lf")
    found = []
    for name, order in (("up", SHARES), ("down", SHARES[::-1])):
        importances = VictimImportances(data, lambda: victim, "victim", ArtifactStore(tmp_path / name))
        pairs = {share: importances.of(share, settings).pair for share in order}
        found.append(pairs)
    for share in SHARES:
        for one, other in zip(found[0][share], found[1][share], strict=True):
            assert all(torch.equal(one.total[name], other.total[name]) for name in one.total)


def test_every_sample_is_read_once_for_all_shares_and_for_lf_and_xlf(importances, data, monkeypatch):
    read = []
    original = estimate_importances

    def counted(model, samples, **options):
        read.append(len(samples))
        return original(model, samples, **options)

    monkeypatch.setattr(importances_module, "estimate_importances", counted)
    for method in ("lf", "xlf"):
        for share in ("one_shot", 0.1, 0.5, 1.0):
            timed = importances.of(share, HealSettings(method=method))
            assert timed.seconds > 0
    assert sum(read) == len(data.train()) + MANIPULATED


def test_two_workers_do_not_compute_the_same(data, victim, tmp_path, monkeypatch):
    read = []

    def slowly(model, samples, **options):
        read.append(len(samples))
        return estimate_importances(model, samples, **options)

    def ask(_: int) -> None:
        own = copy.deepcopy(victim)
        importances = VictimImportances(data, lambda: own, "victim", ArtifactStore(tmp_path))
        importances.of(1.0, HealSettings(method="ssd"))

    monkeypatch.setattr(importances_module, "estimate_importances", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(ask, range(2)))
    assert sum(read) == len(data.train()) + MANIPULATED
