"""Before any long work: every node must see the artifact store."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import BadInput
from ..search.store import read_probe, remove_probes, shown, write_probe

PATIENCE_SECONDS = 10.0
"""Network file systems show a new file some seconds late."""

DRIVER = "driver"


def check_store(location: str, nodes: Sequence[tuple[str, str]]) -> None:
    """Write and read a probe from every node.

    Args:
        location: of the store.
        nodes: (id, address) of each.

    Raises:
        BadInput: a node does not see what the driver writes, or the other way round.
    """
    token = uuid.uuid4().hex
    try:
        write_probe(location, token, DRIVER)
        probe = ray.remote(_probe)
        asked = {
            address: probe.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(location, token, node)
            for node, address in nodes
        }
        blind = [address for address, answer in asked.items() if not ray.get(answer)]
        blind += [
            address for node, address in nodes if address not in blind and not _seen(location, token, node)
        ]
    finally:
        remove_probes(location, token)
    if blind:
        raise BadInput(
            f"the artifact store {shown(location)} is not the same on {', '.join(blind)} as where this "
            f"command runs; give --store a folder that all nodes share, or an s3:// or gs:// location"
        )


def _probe(location: str, token: str, name: str) -> bool:
    """Read the driver's probe on a node, and only then write one (else a folder would appear there)."""
    if not _seen(location, token, DRIVER):
        return False
    write_probe(location, token, name)
    return True


def _seen(location: str, token: str, name: str) -> bool:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not read_probe(location, token, name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
