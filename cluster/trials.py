"""What Ray Tune runs: a trial takes one job to the actor that is to do it, and waits.

Imports no torch: the processes of trials stay small.
"""

from __future__ import annotations

from typing import Any

import ray
from ray import tune
from ray.exceptions import ActorUnschedulableError, RayActorError

from .names import ANSWER, CONFIG_ACTOR, CONFIG_JOB, LOST, NAMESPACE, why_gone


class JobTrial(tune.Trainable):
    """One job; its process is used again for the next one."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Ask for a whole CPU, which stands for the actor that does the work."""
        return tune.PlacementGroupFactory([{"CPU": 1}])

    def setup(self, config: dict[str, Any]) -> None:
        """Take the job."""
        self._job = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next job."""
        self._job = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Return the actor's answer as JSON, or why there is none."""
        try:
            actor = ray.get_actor(self._job[CONFIG_ACTOR], namespace=NAMESPACE)
            asked: Any = actor.work.remote(self._job[CONFIG_JOB])
            answer = ray.get(asked)
            return {ANSWER: answer, "done": True}
        except RayActorError as error:
            return {LOST: why_gone(error), "done": True}
        except (ValueError, ActorUnschedulableError):  # no actor of that name, or its node was gone already
            return {LOST: "a worker was gone before its work began", "done": True}
