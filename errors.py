"""Errors that a user can act on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `import theriac` stays instant
    from pydantic import ValidationError


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message names the value, the reason and the remedy. The command line prints it without a traceback
    and exits with status 2.
    """


class NotFinite(BadInput):
    """A model returns NaN or infinite numbers: one that was given so, or that training has made so."""


class NotWritable(BadInput):
    """Nothing can be stored any more, whatever is computed: a full disk, a folder without permission."""


def explain_validation(error: ValidationError, what: str, valid: Iterable[str] = ()) -> BadInput:
    """The first finding of pydantic as one `BadInput`: which value, why, and what would be right.

    Args:
        error: what pydantic raised.
        what: what was being validated, for the beginning of the message.
        valid: names of the fields that exist, listed when an unknown one was given.
    """
    finding = error.errors()[0]
    place = ".".join(str(part) for part in finding["loc"])
    if finding["type"] == "extra_forbidden":
        return BadInput(f"{what}: unknown setting {place!r}; the valid ones are {', '.join(sorted(valid))}")
    reason = finding["msg"].removeprefix("Value error, ")
    return BadInput(f"{what}: {place} = {finding['input']!r}: {reason}")
