"""Errors that a user can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `import theriac` stays instant
    from pydantic import ValidationError


_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Controls, which move cursors and end lines; marks that turn the direction of reading; lone surrogates."""


def printable(text: str) -> str:
    r"""Escape what a terminal must not get from a file's or a class's name, as ``\x1b``, ``\n``, ``\u202e``.

    The text stays one line; what is escaped already stays as it is.
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def closest(word: object, valid: Iterable[str]) -> str:
    """Suggest "; did you mean ...?" for a word that is none of the valid ones, or nothing.

    Args:
        word: what was given.
        valid: the names that would have been right.

    Example:
        >>> closest("badnet", ["badnets", "blend"])
        "; did you mean 'badnets'?"
    """
    known = list(valid)
    close = difflib.get_close_matches(str(word)[:_LONGEST_WORD], known, n=1)
    lower = close or difflib.get_close_matches(str(word)[:_LONGEST_WORD].lower(), known, n=1)
    return f"; did you mean {lower[0]!r}?" if lower else ""


_LONGEST_WORD = 100
"""Characters of a word that are compared with names: the time grows with the square."""


class BadInput(ValueError):
    """Something the user gave cannot be used.

    The message names the value, the reason and the remedy, in one line: what no terminal should get, and ends
    of lines, are escaped. The command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(printable(one) if isinstance(one, str) else one for one in arguments))


class NotFinite(BadInput):
    """A model returns NaN or infinite numbers: one that was given so, or that training has made so."""


class NotWritable(BadInput):
    """Nothing can be stored any more, whatever is computed: a full disk, a folder without permission."""


def explain_validation(error: ValidationError, what: str, valid: Iterable[str] = ()) -> BadInput:
    """Turn the first finding of pydantic into one `BadInput`: which value, why, and what would be right.

    Args:
        error: what pydantic raised.
        what: what was being validated, for the beginning of the message.
        valid: names of the fields that exist, listed when an unknown one was given.
    """
    findings = error.errors(include_url=False)
    first, known = findings[0], sorted(valid)
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return BadInput(
            f"{what}: unknown setting {place!r}; the valid ones are {', '.join(known)}{closest(place, known)}"
        )
    ways = [one for one in findings if one["loc"][:1] == first["loc"][:1]]
    field = str(first["loc"][0]) if len({one["loc"] for one in ways}) > 1 else place
    return BadInput(f"{what}: {field} = {shortened(first['input'])}: {wanted(ways)}")


def wanted(findings: Sequence[Mapping[str, Any]]) -> str:
    """Say what pydantic would take for one value, of which it has tried several kinds.

    Args:
        findings: one or more about the same value.
    """
    ways = list(dict.fromkeys(one["msg"].removeprefix("Value error, ") for one in findings))
    shown = " or ".join([ways[0], *(way[:1].lower() + way[1:] for way in ways[1:])])
    names = [
        name for one in findings for name in _QUOTED.findall(str(one.get("ctx", {}).get("expected", "")))
    ]
    given = findings[0]["input"]
    return shown + (closest(given, names) if isinstance(given, str) else "")


_QUOTED = re.compile(r"'([^']+)'")
_SHOWN = 200
"""Characters of a value that a message shows."""


def shortened(value: object) -> str:
    """Show a value as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; lists in lists
        return f"a very long {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
