"""kill -9 of whatever takes part in a sweep: the same rows, and nothing finished is computed again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from theriac.cluster.fleet import RESTARTS
from theriac.tests.sweeps import (
    ACTOR,
    TRIAL,
    Command,
    Rows,
    computed_again,
    differences,
    finished,
    finished_cells,
    reference_rows,
    run_here,
    written_sweep,
)

Counted = Callable[..., None]
SERVERS = {"raylet/raylet": "raylet", "gcs/gcs_server": "control server"}
"""Part of the command line -> what the message says."""


@pytest.fixture(scope="module")
def rows() -> Rows:
    """What comes of the sweep in one process."""
    return reference_rows()


def test_a_killed_trial_and_killed_actors_are_replaced(
    rows: Rows, tmp_path: Path, record_testsuite_property: Counted
) -> None:
    with Command(written_sweep(tmp_path), tmp_path / "results") as command:
        at_trial = command.wait_for_cells(1)
        before = finished(command.results)
        assert command.kill(TRIAL)
        at_actors = command.wait_for_cells(at_trial + 1)
        for _ in range(RESTARTS + 1):
            command.wait_for(lambda: len(command.processes(ACTOR)) == 2, "two actors")
            assert command.kill(ACTOR) == 2
        assert command.end() == 0
    summary = command.summary
    record_testsuite_property("cells", {"at_trial": at_trial, "at_actors": at_actors, **summary["counts"]})
    assert differences(command.results, rows) == []
    assert computed_again(before, command.results) == []
    assert summary["computed"] == len(rows["searches"])
    assert summary["counts"]["lost_workers"] == 2
    assert summary["counts"]["retried"] >= 1


@pytest.mark.usefixtures("ray_here")
def test_after_the_driver_was_killed_the_same_command_goes_on(
    rows: Rows, tmp_path: Path, record_testsuite_property: Counted
) -> None:
    file, results, total = written_sweep(tmp_path), tmp_path / "results", len(rows["searches"])
    with Command(file, results) as command:
        command.wait_for(lambda: list((results / "locks").glob("[0-9a-f]*")), "a training")
        command.kill_driver()
        assert finished_cells(results) == 0
    before = finished(results)
    with Command(file, results) as command:
        command.wait_for_cells(total // 3)
        command.kill_driver()
        assert computed_again(before, results) == []
    before, cells = finished(results), finished_cells(results)
    assert command.status.state == "lost"
    ended = run_here(file, results)
    record_testsuite_property("cells", {"at_kill": cells, **ended.summary})
    assert (ended.code, ended.summary["computed"]) == (0, total - cells), ended.said
    assert differences(results, rows) == []
    assert computed_again(before, results) == []


@pytest.mark.usefixtures("ray_here")
def test_the_death_of_rays_own_servers_ends_the_sweep_in_a_line_and_the_same_command_goes_on(
    rows: Rows, tmp_path: Path
) -> None:
    file, results, total = written_sweep(tmp_path), tmp_path / "results", len(rows["searches"])
    for number, (server, name) in enumerate(SERVERS.items()):
        with Command(file, results, log=tmp_path / server.replace("/", "-"), workers=1) as command:
            command.wait_for_cells(1 + 4 * number)
            assert command.kill(server) >= 1
            assert command.end() == 130, command.said
            assert len([line for line in command.said.splitlines() if f"Ray's {name}" in line]) == 1
            for noise in ("Traceback", "state-dump", "rpc_client"):
                assert noise not in command.said
            assert command.status.state == "interrupted"
            assert command.status.running == 0
    before, cells = finished(results), finished_cells(results)
    ended = run_here(file, results)
    assert (ended.code, ended.summary["computed"]) == (0, total - cells), ended.said
    assert differences(results, rows) == []
    assert computed_again(before, results) == []
