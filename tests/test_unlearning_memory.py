"""How many samples are worked on at once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

import theriac
from theriac.search.heal import Healing
from theriac.tests.importance_models import SequenceFirst, data, make, randomise
from theriac.tests.poisoned import poisoned_digits
from theriac.unlearning import memory as chunks
from theriac.unlearning.importance import sample as sample_importance
from theriac.unlearning.importance.estimate import Importance, estimate_importance
from theriac.unlearning.importance.sample import SampleSums
from theriac.unlearning.importance.sensitivities import Sensitivity
from theriac.unlearning.importance.traversal import Traversal
from theriac.unlearning.importance.working_model import WorkingModel
from theriac.unlearning.kinds import GRANULARITIES


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of the chunks whose gradients are taken."""
    seen: list[int] = []
    gradients = Traversal.gradients

    def sized(self: Traversal, x: Tensor, y: Tensor) -> Any:
        seen.append(len(x))
        return gradients(self, x, y)

    monkeypatch.setattr(Traversal, "gradients", sized)
    return seen


def sums_of(model: torch.nn.Module, x: Tensor, y: Tensor) -> SampleSums:
    sums = SampleSums(WorkingModel(model), [Sensitivity("xlf", 1.0)], None)
    sums.add(x, y)
    return sums


def test_a_chunk_fits_what_the_check_found(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The check moves a layer to the slow path, so the very chunk it looked at must become smaller."""
    torch.manual_seed(0)
    model, ((x, y),) = randomise(SequenceFirst()).eval(), data(24, batch=24)
    before, needs = (
        next(iter(sums_of(model, *part)._traversals.values())).bytes_per_sample(x[:2], y[:2])
        for part in ((x[:0], y[:0]), (x, y))
    )
    assert 9 * needs // before > 9
    sizes.clear()
    monkeypatch.setattr(sample_importance, "chunk_budget", lambda _: 9 * needs)
    sums_of(model, x, y)
    assert sizes == [9, 9, 6]


def test_no_chunk_is_larger_than_512(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sample_importance, "chunk_budget", lambda _: 1 << 60)
    estimate_importance(make("linear"), data(600, batch=600))
    assert sizes == [512, 88]


FREE = [16 << 20, 512 << 20, 16 << 30]
POISONED = poisoned_digits()
SEARCHES: dict[str, dict[str, Any]] = {
    "ptn": {},
    "ptn of batches": {"granularity": "batch"},
    "grid": {"search": "grid"},
    "guarded": {"search": "guarded"},
}


def healed(free: int, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> Healing:
    """What a machine gives on which that much memory is free, to whoever asks."""
    monkeypatch.setattr(chunks, "free_memory", lambda _: free)
    monkeypatch.setattr(os, "sysconf", lambda name: 4096 if name == "SC_PAGE_SIZE" else free // 4096)
    return theriac.heal(POISONED.model, forget=POISONED.found, retain=POISONED.rest, **settings)


@pytest.mark.parametrize("search", SEARCHES)
def test_healing_does_not_depend_on_free_memory(search: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = [healed(free, monkeypatch, SEARCHES[search]) for free in FREE]
    weights = first.model.state_dict()
    assert first.metrics["importance_chunk_reduced_to"] is None
    for other in others:
        assert (other.status, other.alpha, other.trace) == (first.status, first.alpha, first.trace)
        assert all(torch.equal(value, weights[name]) for name, value in other.model.state_dict().items())


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_importances_do_not_depend_on_free_memory(granularity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for free in FREE:
        monkeypatch.setattr(chunks, "free_memory", lambda _, free=free: free)
        found.append(estimate_importance(make("resnet9"), data(40, batch=40), granularity=granularity))
    for other in found[1:]:
        assert all(torch.equal(other.total[name], value) for name, value in found[0].total.items())


THREADS = """
import sys, torch
from theriac.tests.importance_models import data, make
from theriac.unlearning.importance import estimate_importance
torch.set_num_threads(int(sys.argv[1]))
estimate_importance(make(sys.argv[3]), data(40, batch=40), granularity=sys.argv[4]).save(sys.argv[2])
"""


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_threads_change_rounding_at_most(granularity: str, tmp_path: Any) -> None:
    """To the bit where the BLAS of the processor allows it, which it need not."""
    found = []
    for threads in ("1", "2"):
        path = tmp_path / threads
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        command = [sys.executable, "-c", THREADS, threads, str(path), "resnet9", granularity]
        subprocess.run(command, check=True, env=environment)
        found.append(Importance.load(path))
    for name, value in found[0].total.items():
        assert (found[1].total[name] - value).abs().max() <= 2e-5 * value.max(), name


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_running_out_of_memory_is_said_and_recorded(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gradients = Traversal.gradients

    def limited(self: Traversal, x: Tensor, y: Tensor) -> Any:
        if len(x) > 100:
            raise error
        return gradients(self, x, y)

    monkeypatch.setattr(Traversal, "gradients", limited)
    healing = theriac.heal(POISONED.model, forget=POISONED.found, retain=POISONED.rest, batch_size=256)
    assert healing.metrics["importance_chunk_reduced_to"] == 64
    assert [r.getMessage().split(";")[0] for r in caplog.records] == [
        "out of memory with 256 samples at once"
    ]


def test_another_error_is_none_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise RuntimeError("something else")

    monkeypatch.setattr(Traversal, "gradients", fails)
    with pytest.raises(RuntimeError, match="something else"):
        estimate_importance(make("linear"), data(3))


def test_what_was_reduced_is_kept(tmp_path: Any) -> None:
    whole = estimate_importance(make("linear"), data(6))
    part = estimate_importance(make("linear"), data(2))
    assert whole.reduced_to is None
    small, smaller = (Importance(**{**vars(whole), "reduced_to": size}) for size in (8, 4))
    assert [(whole + small).reduced_to, (small + smaller).reduced_to, (small * 2).reduced_to] == [8, 4, 8]
    assert (small - part).reduced_to == 8
    small.save(tmp_path / "small")
    whole.save(tmp_path / "whole")
    assert Importance.load(tmp_path / "small").reduced_to == 8
    assert Importance.load(tmp_path / "whole").reduced_to is None
