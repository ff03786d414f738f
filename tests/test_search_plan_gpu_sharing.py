"""How many workers share a GPU: from what was measured on GPUs, for all that a sweep has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from theriac.search.plan.gpu_sharing import GPU_CONTEXT, actors_that_fit, measured_peak
from theriac.search.store.results import ResultsStore
from theriac.search.sweep.scenario import PRESETS, Scenario
from theriac.unlearning.models.build import ModelSpec

GIB = 1 << 30
DIGITS, CIFAR = PRESETS["digits"], PRESETS["cifar10"]


@pytest.fixture
def results(tmp_path: Path) -> ResultsStore:
    """Peaks of 2 and 3 GiB for digits on a GPU, 9 GiB on a CPU; none for CIFAR on a GPU."""
    store = ResultsStore(tmp_path)
    for key, versions in (("gpu", {"cuda": "13.0"}), ("cpu", {}), ("old", None)):
        store.append("runs", [{"key": key, "versions": None if versions is None else json.dumps(versions)}])
    rows = (
        ("a", "gpu", "digits", 2 * GIB),
        ("b", "gpu", "digits", 3 * GIB),
        ("c", "cpu", "digits", 9 * GIB),
        ("d", "cpu", "cifar10", 9 * GIB),
        ("e", "gpu", "cifar10", None),
        ("f", "old", "cifar10", 1 * GIB),
    )
    store.append(
        "searches",
        [
            {"key": key, "run": run, "dataset": name, "model": "resnet9", "peak_memory": peak}
            for key, run, name, peak in rows
        ],
    )
    return store


@pytest.mark.parametrize(
    ("scenarios", "peak"),
    [
        ([DIGITS], 3 * GIB),
        ([DIGITS, CIFAR], None),
        ([DIGITS.model_copy(update={"model": ModelSpec(name="resnet18")})], None),
        ([], None),
    ],
)
def test_the_peak_counts_if_all_sorts_were_measured_on_a_gpu(
    results: ResultsStore, scenarios: list[Scenario], peak: int | None
):
    assert measured_peak(results, scenarios) == peak


def test_workers_fill_no_more_than_nine_tenths():
    assert actors_that_fit(80 * GIB, 8 * GIB) == int(72 * GIB / (8 * GIB + GPU_CONTEXT)) == 8
    assert actors_that_fit(8 * GIB, 8 * GIB) == 0
