"""What the command line says when something is wrong: one line that names the value and the remedy."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import ValidationError

from ...errors import closest, printable, shortened, wanted

RESUMABLE = ("sweep", "quickstart")
"""Commands that go on where they were interrupted."""


def explain_usage(error: Exception, app: Any, words: Sequence[str]) -> str:
    """Put a parser's error in one line; what pydantic refused is named by its option.

    Args:
        error: of cyclopts.
        app: the command line, an `App` of cyclopts.
        words: what was given; an option among them that the command does not have is named before all else.
    """
    name = words[0] if words else ""
    if name in list(app) and not name.startswith("-"):
        arguments = app[name].assemble_argument_collection(default_parameter=app.default_parameter)
        unknown = unknown_option(words[1:], {"--help", *(one for each in arguments for one in each.names)})
        if unknown:
            return unknown
    cause = error.__cause__
    text = (
        explain_values(cause)
        if isinstance(cause, ValidationError)
        else f"{re.sub(r'(?<![.])[.]$', '', str(error))}; see --help"
    )
    return " ".join(text.split())


def interruption(words: Sequence[str]) -> str:
    """Say that a command was interrupted, and what it keeps.

    Args:
        words: of the command line.
    """
    kept = "; finished cells are kept: run the same command again to go on"
    return f"interrupted{kept if words[:1] and words[0] in RESUMABLE else ''}"


def explain_values(error: ValidationError) -> str:
    """Explain the first option that pydantic refused, and what it should be (all ways, if several)."""
    findings = error.errors()
    if not findings[0]["loc"]:  # options that do not fit together
        return f"{wanted(findings[:1])}; see --help"
    field = findings[0]["loc"][0]
    ways = [finding for finding in findings if finding["loc"][:1] == (field,)]
    option = f"--{str(field).replace('_', '-')}"
    if findings[0]["type"] == "missing":
        return f"{option} is missing; give it, see --help"
    given = findings[0]["input"]
    shown = given if isinstance(given, str) else shortened(given)
    return f"{option} {shown}: {wanted(ways)}; see --help"


def unknown_option(words: Sequence[str], known: Iterable[str]) -> str | None:
    """Name the first of ``words`` that looks like an option and is none, or stands too late; None if all are.

    A parser that misses a required option first would send a user who has misspelt it the wrong way.
    """
    options = sorted(known)
    for number, word in enumerate(words):
        name = word.partition("=")[0]
        if word == "--":
            late = [one for one in words[number + 1 :] if one.partition("=")[0] in options]
            return f"{late[0]} stands after --, which ends the options; leave -- out" if late else None
        if name.startswith("--") and name not in options:
            hint = closest(name, options) or "; see --help"
            return f"unknown option {name}{hint}"
    return None


def printable_lines(text: str) -> str:
    """Escape what a terminal must not get, but for the ends of lines."""
    return "\n".join(map(printable, text.split("\n")))


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


def say_warning(say: Callable[[str], None]) -> Callable[..., None]:
    """Make what `warnings.showwarning` may be, which passes a warning on as one line.

    Args:
        say: takes a line.
    """

    def show(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        say(f"warning: {message}")

    return show


def show_default(value: object) -> object:
    """Show a default of several numbers as it would be typed."""
    return (
        " ".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
        if isinstance(value, tuple)
        else value
    )
