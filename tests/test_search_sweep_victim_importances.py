"""Importances of all discovery shares from one reading of the training set."""

from __future__ import annotations

import copy
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from theriac.datasets.poisoning import Attack, PoisonedData, Share
from theriac.datasets.sources.names import load_dataset
from theriac.search.settings import HealSettings
from theriac.search.store.artifacts import ArtifactStore
from theriac.search.sweep import victim_importances as importances_module
from theriac.search.sweep.victim_importances import (
    VictimImportances,
    part_for,
    piece_bounds,
    shard_count,
    shard_of,
)
from theriac.unlearning.importance.estimate import (
    Importance,
    estimate_importance,
    estimate_importances,
)
from theriac.unlearning.models.build import ModelSpec, create_model

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


def _itself(model: torch.nn.Module) -> torch.nn.Module:
    return model


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


SIZES = [1, 19, 20, 21, 100, 1417]
SETTINGS = {
    "sample": HealSettings(method="lf"),
    "batch": HealSettings(method="ssd", granularity="batch", batch_size=150),
}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importances_module, "SHARD_SAMPLES", 400)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples every traversal read."""
    sizes: list[int] = []

    def counted(model, samples, **options):
        sizes.append(len(samples))
        return estimate_importances(model, samples, **options)

    monkeypatch.setattr(importances_module, "estimate_importances", counted)
    return sizes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("granularity", SETTINGS)
def test_shards_are_all_samples_in_order(size: int, granularity: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(importances_module, "SHARD_SAMPLES", 20)
    part = part_for(0.5, SETTINGS[granularity].model_copy(update={"batch_size": 15}))
    shards = part.shards(size)
    assert bool(shards) == (size > 20)
    assert len(shards) <= importances_module.MOST_SHARDS
    ranges = [shard_of(size, shard) for shard in shards or (part,)]
    assert [number for one in ranges for number in one] == list(range(size))
    assert all(ranges)
    if granularity == "batch":
        assert all(one.start % 15 == 0 for one in ranges)
        assert max(map(len, ranges)) - min(map(len, ranges[:-1] or ranges)) <= 15


def test_a_shard_holds_at_least_a_batch():
    assert shard_count(10_000, "batch", 10_000) == 1
    assert shard_count(10_000, "batch", 6_000) == 2
    assert shard_count(10_000, "sample", 512) == 3
    assert shard_count(10**7, "sample", 512) == importances_module.MOST_SHARDS
    assert shard_count(0, "sample", 512) == 1


def stored(importances: VictimImportances, share: Share, settings: HealSettings) -> tuple[Importance, ...]:
    return importances.of(share, settings).pair


@pytest.mark.parametrize("granularity", SETTINGS)
def test_shards_in_any_order_and_from_anybody_give_one_sum(
    data, victim, tmp_path, granularity: str, small_shards: None, read: list[int]
):
    settings, found, retain = SETTINGS[granularity], [], data.retain(0.5)
    part = part_for(0.5, settings)
    samples = len(data.train()) if granularity == "sample" else len(retain)
    shards = part.shards(samples)
    assert len(shards) == 4
    for number, asked in enumerate([[], [3, 1, 0, 2], [2, 2]]):
        here = tmp_path / str(number)
        for shard in asked:
            own = VictimImportances(data, lambda: victim, "victim", ArtifactStore(here))
            assert own.prepare(shards[shard]) > 0
        last = VictimImportances(data, lambda: victim, "victim", ArtifactStore(here))
        assert last.prepare(part) > 0
        found.append(stored(last, 0.5, settings))
    assert sum(read) == 3 * (samples + len(data.forget(0.5)))
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert (one.count, one.data, one.model) == (other.count, other.data, other.model)
            assert all(torch.equal(one.total[name], other.total[name]) for name in one.total)


@pytest.mark.parametrize("granularity", SETTINGS)
def test_the_sum_of_shards_is_what_one_traversal_gives(
    data, victim, tmp_path, granularity: str, monkeypatch: pytest.MonkeyPatch
):
    settings, pairs = SETTINGS[granularity], []
    for most in (400, 10**6):
        monkeypatch.setattr(importances_module, "SHARD_SAMPLES", most)
        store = ArtifactStore(tmp_path / str(most))
        pairs.append(stored(VictimImportances(data, lambda: victim, "victim", store), 0.5, settings))
    for one, other in zip(*pairs, strict=True):
        assert one.count == other.count
        assert one.data == other.data
        assert close(one, other)


@pytest.mark.parametrize("granularity", SETTINGS)
def test_shards_go_when_they_are_merged_and_are_not_computed_again(
    importances, data, granularity: str, small_shards: None, read: list[int]
):
    settings = SETTINGS[granularity]
    part = part_for(0.5, settings)
    shards = part.shards(len(data.train()) if granularity == "sample" else len(data.retain(0.5)))
    seconds = [importances.prepare(shard) for shard in shards]
    kinds = len(part.kinds)
    assert importances.store.usage()["importances"][0] == 4 * kinds
    assert importances.prepare(part) == pytest.approx(sum(seconds))
    assert importances.store.usage()["importances"][0] == kinds
    before = list(read)
    for shard in shards:
        assert importances.prepare(shard) == pytest.approx(sum(seconds))
    assert read == before
    assert importances.store.usage()["importances"][0] == kinds


def test_workers_share_the_shards_of_a_whole_that_they_ask_for_at_once(
    data, victim, tmp_path, small_shards: None, read: list[int]
):
    part = part_for(0.5, SETTINGS["sample"])
    parts = [*part.shards(len(data.train())), part] * 3
    random.Random(0).shuffle(parts)

    def ask(one) -> None:
        own = copy.deepcopy(victim)
        VictimImportances(data, lambda: own, "victim", ArtifactStore(tmp_path)).prepare(one)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(ask, parts))
    assert sum(read) == len(data.train())
    assert ArtifactStore(tmp_path).usage()["importances"][0] == 2


def test_a_shard_that_was_merged_while_it_was_waited_for_is_not_computed(
    importances, data, small_shards: None, read: list[int], monkeypatch: pytest.MonkeyPatch
):
    part = part_for(0.5, SETTINGS["sample"])
    shard, making = part.shards(len(data.train()))[0], importances.store.making
    keys: list[str] = []

    def late(key: str):
        keys.append(key)
        if len(keys) == 1:
            importances.prepare(part)
        return making(key)

    monkeypatch.setattr(importances.store, "making", late)
    assert importances.prepare(shard) > 0
    assert sum(read) == len(data.train())
    assert importances.store.usage()["importances"][0] == 2


def test_several_kinds_of_batches_are_read_once(importances, data, small_shards: None, read: list[int]):
    lf, ssd = (SETTINGS["batch"].model_copy(update={"method": method}) for method in ("lf", "ssd"))
    for shard in part_for(0.5, ssd, ("lf", "fim")).shards(len(data.retain(0.5))):
        importances.prepare(shard)
    importances.prepare(part_for(0.5, ssd, ("lf", "fim")))
    assert sum(read) == len(data.retain(0.5))
    for settings in (lf, ssd):
        importances.of(0.5, settings)
    assert sum(read) == len(data.retain(0.5)) + 2 * len(data.forget(0.5))


def test_importances_of_another_victim_are_computed_again(
    data: PoisonedData, victim: torch.nn.Module, tmp_path: Path, caplog
):
    settings = HealSettings(method="xlf")
    for seed in (3, 4):
        model = create_model(ModelSpec(width=0.05), num_classes=10, shape=(1, 16, 16), seed=seed).eval()
        store = ArtifactStore(tmp_path)
        store.refuse("models", "victim", "for the test")
        store.put("victim", model.state_dict(), {})
        forget, _ = VictimImportances(data, partial(_itself, model), "victim", store).of(0.5, settings).pair
        fresh = estimate_importance(model, data.forget(0.5).batched(512), kind="xlf", granularity="sample")
        assert close(forget, fresh)
    assert "made of another victim than the one that is stored now" in caplog.text
