"""What the driver and the processes of trials must agree on; imports no torch."""

from __future__ import annotations

from ray.exceptions import RayActorError

NAMESPACE = "theriac"
CONFIG_ACTOR, CONFIG_JOB = "actor", "job"
ANSWER, LOST = "answer", "lost"


def why_gone(error: RayActorError) -> str:
    """Put Ray's page of text in a line; its last line names what an actor raised when it started."""
    if "creation task" in str(error):
        return f"a worker could not start: {str(error).strip().splitlines()[-1].strip()}"
    return "a worker process was killed, by hand or for lack of memory, or its node was lost"
