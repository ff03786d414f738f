"""A node of a cluster that dies during a sweep, and one that joins it."""

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
from theriac.tests.sweeps import (
    ACTOR,
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


@pytest.fixture(scope="module")
def rows() -> Rows:
    """What comes of the sweep in one process."""
    return reference_rows()


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
