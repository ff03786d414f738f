"""The importance actors of a sweep: where they run, and who takes the place of one that is gone."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import BadInput
from .actors import ActorSettings, ImportanceActor
from .names import NAMESPACE

RESTARTS = 3
AVOID_SECONDS = 30.0
"""Ray takes up to half of that to see that a node is dead; actors started there meanwhile never come up."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Member:
    """An actor of the fleet.

    Attributes:
        number: of the worker, from 0; whoever takes its place has another.
        name: by which trials find it.
        node: id of its node.
        address: of its node.
        handle: of Ray.
    """

    number: int
    name: str
    node: str
    address: str
    handle: Any


@dataclass(frozen=True, kw_only=True)
class Place:
    """A node and how many actors it takes."""

    node: str
    address: str
    slots: int


def places(device: str, per_gpu: int) -> list[Place]:
    """List the nodes that are alive: an actor for each CPU, or ``per_gpu`` for each GPU."""
    found = []
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        resources = node["Resources"] if node["Alive"] else {}
        slots = int(resources.get("GPU", 0)) * per_gpu if device == "cuda" else int(resources.get("CPU", 0))
        found.append(Place(node=node["NodeID"], address=node["NodeManagerAddress"], slots=slots))
    return [place for place in found if place.slots]


def smallest_gpu() -> int:
    """Return the bytes of the smallest GPU of the cluster; every node with GPUs is asked."""
    ask = ray.remote(_gpu_bytes)
    asked = [
        ask.options(
            num_cpus=0, num_gpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False)
        ).remote()
        for place in places("cuda", 1)
    ]
    return int(min(ray.get(asked)))


def _gpu_bytes() -> int:
    return int(torch.cuda.mem_get_info()[1])


class Fleet:
    """Actors, one for each CPU or GPU (or part of it) of the cluster, at most ``size`` of them.

    They take no CPU of Ray's accounts: the trials that wait for them do. An actor whose process dies is
    restarted by Ray on its node, `RESTARTS` times; one whose node dies is gone.

    Args:
        settings: of the actors.
        size: most actors; None: as many as the cluster takes.
        per_gpu: actors that share a GPU.

    Raises:
        BadInput: the cluster has no CPU, or no GPU where one is asked for.
    """

    def __init__(self, settings: ActorSettings, *, size: int | None = None, per_gpu: int = 1) -> None:
        self._settings, self._size, self._per_gpu = settings, size, per_gpu
        self._tag, self._next = uuid.uuid4().hex[:8], 0
        self._avoided: dict[str, float] = {}
        self.members: dict[int, Member] = {}
        self.lost = 0
        self.grow()
        if not self.members:
            what = "GPU; choose --device cpu" if settings.device == "cuda" else "CPU"
            raise BadInput(f"the Ray cluster has no {what}, or add nodes that have one")

    def grow(self) -> list[Member]:
        """Start actors where nodes have room for them: at the beginning, and when nodes have come or gone.

        Nodes that have just lost one have to wait, unless nobody is left.
        """
        taken, now = Counter(member.node for member in self.members.values()), time.monotonic()
        avoided = {node for node, end in self._avoided.items() if end > now and self.members}
        added = []
        for place in places(self._settings.device, self._per_gpu):
            if place.node in avoided:
                continue
            for _ in range(place.slots - taken[place.node]):
                if self._size is None or len(self.members) < self._size:
                    added.append(self._start(place))
        return added

    def drop(self, number: int) -> None:
        """Drop an actor that is gone for good, or out of reach."""
        member = self.members.pop(number)
        ray.kill(member.handle)  # one that is only out of reach would keep its memory
        self.lost += 1
        self._avoided[member.node] = time.monotonic() + AVOID_SECONDS
        log.info("worker %d on %s is gone", number, member.address)

    def stop(self) -> None:
        """End all actors."""
        for member in self.members.values():
            ray.kill(member.handle)
        self.members.clear()

    def _sharers(self, place: Place) -> int:
        """Count the actors that share a GPU, or the memory of a node."""
        if self._settings.device == "cuda":
            return self._per_gpu
        return place.slots if self._size is None else min(place.slots, self._size)

    def _start(self, place: Place) -> Member:
        number, self._next = self._next, self._next + 1
        name = f"{self._tag}-{number}"
        handle = (
            ray.remote(ImportanceActor)
            .options(
                name=name,
                namespace=NAMESPACE,
                num_cpus=0,
                num_gpus=1 / self._per_gpu if self._settings.device == "cuda" else 0,
                max_restarts=RESTARTS,
                max_task_retries=RESTARTS,
                max_concurrency=4,
                scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
            )
            .remote(replace(self._settings, sharers=self._sharers(place)))
        )
        member = Member(number=number, name=name, node=place.node, address=place.address, handle=handle)
        self.members[number] = member
        return member
