"""Trials of methods that train, on Ray: the rows of one process, and none is run twice, whoever is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from theriac.search.sweep.files import load_sweep
from theriac.tests.sweeps import (
    Command,
    Rows,
    differences,
    found_rows,
    run_here,
    sequential_rows,
    written_sweep,
)

SWEEP = """
name: tuning
scenario:
  preset: digits
  model: {name: resnet9, width: 0.0625}
  recipe: {iterations: 40}
  gate: {clean_accuracy: 0, asr: 0}
  held_back: {clean: 60, selection: 40}
shares: [0.5]
methods: [none, ga, npo, ft]
searches: [tpe]
settings: {samples: 6, together: 3, compared: 200}
settings_for:
  - when: {methods: [ga, npo]}
    set: {parameters: {steps: 4, record_every: 4}}
  - when: {methods: npo}
    set: {objective: oracle, pareto: true}
  - when: {methods: ft}
    set: {parameters: {epochs: 1, augmentation: none, batch_size: 32}}
scoring: {steps: 0, reference: false}
"""
TIMED = ("seconds", "trace")


def untimed(rows: Rows) -> Rows:
    return {
        table: {
            key: {name: value for name, value in row.items() if name not in TIMED}
            for key, row in found.items()
        }
        for table, found in rows.items()
    }


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """What comes of the sweep in one process."""
    folder = tmp_path_factory.mktemp("alone")
    return sequential_rows(load_sweep(written_sweep(folder, SWEEP)), folder / "results")


def trials(results: Path) -> dict[str, int]:
    """Finished trials -> when they were written."""
    return {file.parent.name: file.stat().st_mtime_ns for file in results.glob("trials/[!.]*/info.json")}


@pytest.mark.usefixtures("ray_here")
def test_two_workers_give_the_rows_of_one_process_and_go_on_after_kill_9(rows: Rows, tmp_path: Path) -> None:
    file, results = written_sweep(tmp_path, SWEEP), tmp_path / "results"
    with Command(file, results) as command:
        command.wait_for(lambda: len(trials(results)) >= 4, "four trials")
        command.kill_driver()
    before = trials(results)
    ended = run_here(file, results)
    assert ended.code == 0, ended.said
    now = trials(results)
    assert {name: now[name] for name in before} == before, "a finished trial was run again"
    found = found_rows(results)
    assert len(found["steps"]) == 3 * 6
    assert untimed(found) == untimed(rows), differences(results, rows)
    marked = {row["method"]: row["uses_oracle"] for row in found["searches"].values()}
    assert marked == {"none": False, "ga": False, "npo": True, "ft": False}
