"""A table of steps in many small parts, for tests of compaction."""

from __future__ import annotations

from pathlib import Path

from theriac.search.store.results import ResultsStore


def fill(store: ResultsStore, count: int = 5) -> list[Path]:
    paths = [
        store.append("steps", [{"key": f"k{i}", "s": i / 3}, {"key": "newest", "step": i}])
        for i in range(count)
    ]
    return [path for path in paths if path]


def parts(directory: Path) -> list[Path]:
    return sorted((directory / "steps").glob("*.parquet"))
