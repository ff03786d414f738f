"""Worker processes of DataLoaders that die, for lack of memory or by their own code."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

from ...errors import BadInput
from ...unlearning.inference import first_line

MOMENT = 1.0
"""Seconds in which the signal of a death comes after the connection is lost."""


class WorkerDied(BadInput):
    """A worker process of a set's DataLoader has died."""


def worker_died(name: str, error: Exception) -> WorkerDied:
    """Make the error that says that a worker of a DataLoader has died.

    Args:
        name: of the set.
        error: as PyTorch raises it.
    """
    return WorkerDied(
        f"{name}: a worker process of its DataLoader has died ({first_line(error)}): it was killed, as for "
        f"lack of memory, or its dataset ended it; give a DataLoader with fewer workers, or with "
        f"num_workers=0, which shows the error"
    )


def death_in(error: BaseException | None) -> Exception | None:
    """Find the error by which PyTorch tells the death of a worker, among those that led to ``error``."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid"):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def death_behind(error: Exception, workers: int) -> Exception | None:
    """Find the death of a worker that an error of reading shows, by name or by a lost connection.

    Waits for the signal of a death that is not told yet, which would come up in the caller's code.

    Args:
        error: of the loader.
        workers: how many it has.
    """
    if (death := death_in(error)) is not None or not workers:
        return death
    lost = isinstance(error, OSError | EOFError) and not str(error).startswith("Caught ")
    told = _awaited() if lost else None
    return error if told is None and isinstance(error, ConnectionError | EOFError) and lost else told


def _awaited() -> Exception | None:
    """Return what the signal handler raises, if it does within a moment."""
    until = time.monotonic() + MOMENT
    try:
        while time.monotonic() < until:
            time.sleep(0.01)
    except RuntimeError as error:
        return death_in(error)
    return None


@contextmanager
def telling_of_dead_workers(sets: Mapping[str, Any]) -> Iterator[None]:
    """Say of which set a worker has died, wherever PyTorch's signal handler raises that.

    Args:
        sets: what the sets are called in error messages -> as they were given.

    Raises:
        WorkerDied: one has, inside the block.
    """
    try:
        yield
    except WorkerDied:
        raise
    except Exception as error:
        death = death_in(error)
        if death is None:
            raise
        named = [name for name, data in sets.items() if isinstance(data, DataLoader) and data.num_workers]
        raise worker_died(" or ".join(named) or "a set", death) from error
