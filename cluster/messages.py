"""What the command line says when something is wrong: one line that names the value and the remedy."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pydantic import ValidationError

from ..search.locations import masked

__all__ = ["Warnings", "explain_usage", "explain_values", "masked", "show_numbers"]


def explain_usage(error: Exception) -> str:
    """A parser's error in one line; what pydantic refused is named by its option."""
    cause = error.__cause__
    text = explain_values(cause) if isinstance(cause, ValidationError) else str(error)
    return " ".join(text.split())


def explain_values(error: ValidationError) -> str:
    """The first option that pydantic refused, and what it should be (several ways, where there are any)."""
    findings = error.errors()
    if not findings[0]["loc"]:  # options that do not fit together
        return f"{_said(findings[0]['msg'])}; see --help"
    field = findings[0]["loc"][0]
    ways = [_said(finding["msg"]) for finding in findings if finding["loc"][:1] == (field,)]
    shown = " or ".join([ways[0], *(way[:1].lower() + way[1:] for way in ways[1:])])
    return f"--{str(field).replace('_', '-')} {findings[0]['input']}: {shown}; see --help"


def _said(message: str) -> str:
    return message.removeprefix("Value error, ")


class Warnings(logging.Handler):
    """Passes log messages on as single lines.

    Args:
        say: takes a line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Say the message of ``record``."""
        self._say(f"{record.levelname.lower()}: {record.getMessage()}")


def show_numbers(values: Sequence[float]) -> str:
    """A default of several numbers as it would be typed."""
    return " ".join(f"{value:g}" for value in values)
