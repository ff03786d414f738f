"""kill -9 of whatever takes part in a sweep: the same rows, and nothing finished is computed again."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray._private import ray_constants
from ray.cluster_utils import Cluster

from theriac.cluster import session
from theriac.cluster.fleet import RESTARTS
from theriac.tests.sweeps import (
    ACTOR,
    TRIAL,
    Command,
    Process,
    Rows,
    all_processes,
    computed_again,
    differences,
    finished,
    finished_cells,
    reference_rows,
    written_sweep,
)

Counted = Callable[..., None]
STORE_BYTES = 100 << 20
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
    with Command(file, results) as command:
        assert command.end() == 0, command.said
        record_testsuite_property("cells", {"at_kill": cells, **command.summary})
        assert command.summary["computed"] == total - cells
    assert differences(results, rows) == []
    assert computed_again(before, results) == []


def test_the_death_of_rays_own_servers_ends_the_sweep_in_a_line_and_the_same_command_goes_on(
    rows: Rows, tmp_path: Path
) -> None:
    file, results, total = written_sweep(tmp_path), tmp_path / "results", len(rows["searches"])
    for number, (server, name) in enumerate(SERVERS.items()):
        with Command(file, results, log=tmp_path / server.replace("/", "-")) as command:
            command.wait_for_cells(1 + 4 * number)
            assert command.kill(server) >= 1
            assert command.end() == 130, command.said
            assert len([line for line in command.said.splitlines() if f"Ray's {name}" in line]) == 1
            for noise in ("Traceback", "state-dump", "rpc_client"):
                assert noise not in command.said
            assert command.status.state == "interrupted"
            assert command.status.running == 0
    before, cells = finished(results), finished_cells(results)
    with Command(file, results) as command:
        assert command.end() == 0, command.said
        assert command.summary["computed"] == total - cells
    assert differences(results, rows) == []
    assert computed_again(before, results) == []


def test_a_lost_node_is_done_without_and_a_new_one_is_used(
    rows: Rows,
    cluster: Cluster,
    tmp_path: Path,
    record_testsuite_property: Counted,
) -> None:
    nodes = [cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES) for _ in range(2)]
    file, results = written_sweep(tmp_path), tmp_path / "results"
    with Command(file, results, "--address", cluster.address, workers=None) as command:
        at_kill = command.wait_for_cells(2)
        before = finished(results)
        assert command.status.progress
        assert command.status.progress.workers == 2
        raylet = _raylet(nodes[0])
        raylet.kill()
        raylet.wait()
        command.wait_for(lambda: _lost(command), "the loss of a worker")
        at_loss = finished_cells(results)
        new = cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
        command.wait_for(lambda: _actors(_raylet(new).pid), "an actor on the new node")
        at_new = finished_cells(results)
        assert command.end() == 0, command.said
    counts = command.summary["counts"]
    record_testsuite_property("nodes", {"kill": at_kill, "loss": at_loss, "new": at_new, **counts})
    assert differences(results, rows) == []
    assert computed_again(before, results) == []
    assert counts["lost_workers"] == 1, "none was started on the dead node"


def _raylet(node: Any) -> Any:
    """The process that is the node."""
    return node.all_processes[ray_constants.PROCESS_TYPE_RAYLET][0].process


def _lost(command: Command) -> int:
    """How many workers were."""
    progress = command.status.progress
    return progress.lost_workers if progress else 0


def _actors(raylet: int) -> list[Process]:
    """Those of a node."""
    return [one for one in all_processes() if one.parent == raylet and one.command.startswith(ACTOR)]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head without CPUs, to which nodes can be added."""
    # Ray reads the token once in a process: that of an earlier test must stay, and so must this one
    if not session._has_token():
        os.environ[session.TOKEN] = secrets.token_hex(32)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES})
    yield found
    found.shutdown()
