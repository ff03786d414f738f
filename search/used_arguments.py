"""Refuses what a healing's method does not use, instead of ignoring it. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import BadInput
from .settings import METHODS
from .training import NEEDS_CLEAN, TRAINED_METHODS

USED_BY: dict[str, tuple[str, ...]] = {
    "clean": NEEDS_CLEAN,
    "base": tuple(name for name, entry in TRAINED_METHODS.items() if entry.takes_base),
    "mean": tuple(TRAINED_METHODS),
    "std": tuple(TRAINED_METHODS),
    "seed": tuple(TRAINED_METHODS),
}
"""Argument -> the methods that use it; all use the others."""


def refuse_unused(method: str, *, named: Callable[[str], str] = "{}=...".format, **given: Any) -> None:
    """Refuse arguments that were given (are not None) and that the method does not use.

    Args:
        method: one that does not exist is not judged.
        named: how an argument is shown.
        given: arguments of `USED_BY`.

    Raises:
        BadInput: names the first that it does not use, and the methods that do.
    """
    if method not in (*METHODS, *TRAINED_METHODS):
        return
    for name, value in given.items():
        if value is not None and method not in USED_BY[name]:
            raise BadInput(
                f"{named(name)}: the method {method} does not use this; leave it out, or choose one that "
                f"does ({', '.join(USED_BY[name])})"
            )
