"""How many workers a GPU has room for, from what earlier runs took."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ...rows import Row
from ..store import ResultsStore
from ..sweep import Scenario

GPU_CONTEXT = 600 << 20
"""Bytes that a process takes on a GPU beside its tensors."""
COLUMNS = ("run", "dataset", "model", "peak_memory")
GPU_SHARE = 0.9
"""Of a GPU's memory that workers may fill."""


def actors_that_fit(device_memory: int, peak_memory: int) -> int:
    """Count how many workers fit on a GPU; 0 if not even one.

    Args:
        device_memory: bytes of the GPU.
        peak_memory: bytes that the tensors of a worker take at most.
    """
    return int(device_memory * GPU_SHARE / (peak_memory + GPU_CONTEXT))


def measured_peak(results: ResultsStore, scenarios: Sequence[Scenario]) -> int | None:
    """Return the most that a cell of each dataset and model of ``scenarios`` took on a GPU, in bytes.

    Return None unless all of them have been measured: one that was not could take more.

    Args:
        results: of earlier runs.
        scenarios: those of the sweep.
    """
    on_gpu = {row["key"] for row in results.read("runs", columns=["versions"]).to_pylist() if _used_cuda(row)}
    peaks: dict[tuple[str, str], int] = {}
    for row in results.read("searches", columns=COLUMNS).to_pylist():
        if row["run"] in on_gpu and row["peak_memory"]:
            sort = (row["dataset"], row["model"])
            peaks[sort] = max(peaks.get(sort, 0), row["peak_memory"])
    wanted = {(scenario.dataset, scenario.model.name) for scenario in scenarios}
    return max(peaks[sort] for sort in wanted) if wanted and wanted <= peaks.keys() else None


def _used_cuda(run: Row) -> bool:
    return json.loads(run["versions"] or "{}").get("cuda") is not None
