"""What a process keeps in memory between jobs: the most recently used things that fit a budget."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

logger = logging.getLogger(__name__)


class Held(Protocol):
    """Something that knows how many bytes it holds, which may change."""

    @property
    def held_bytes(self) -> int: ...


Thing = TypeVar("Thing", bound=Held)


class Keeper:
    """Keeps things under a budget; what was used least recently goes first.

    What the present job uses stays, however large it is.

    Args:
        budget: bytes, >= 0.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._things: OrderedDict[Hashable, Any] = OrderedDict()
        self._in_use: set[Hashable] = set()

    @property
    def held_bytes(self) -> int:
        """Count the bytes of all things together."""
        return sum(thing.held_bytes for thing in self._things.values())

    def begin(self) -> None:
        """Begin a job: what earlier ones used may go."""
        self._in_use.clear()
        self._make_room()

    def get(self, key: Hashable, make: Callable[[], Thing]) -> Thing:
        """Return the thing under ``key``, made now if it is not here; others may go to make room for it."""
        if key not in self._things:
            self._things[key] = make()
        self._things.move_to_end(key)
        self._in_use.add(key)
        self._make_room()
        thing: Thing = self._things[key]
        return thing

    def _make_room(self) -> None:
        idle = [key for key in self._things if key not in self._in_use]
        for key in idle:
            if self.held_bytes <= self.budget:
                return
            logger.debug("let go of %s", key)
            del self._things[key]
