"""What an input is, and what counts as a good answer to it.

A kind of input is a function from a seeded generator, an empty folder and a way to run commands to a `Case`.
The same seed gives the same input, so a failure is repeated by its kind and number alone.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

from theriac.cluster import cli
from theriac.errors import BadInput

UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What no terminal may get raw: controls but tab and newline, marks of text direction, lone surrogates."""

Result = Literal["right", "refused", "failed"]


class Accepted(Exception):
    """Raised in the place of work that would take minutes: all checks before it have passed."""


@dataclass(frozen=True, kw_only=True)
class Printed:
    """What a command answered."""

    status: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input.

    Attributes:
        shown: the input in a line, for the report.
        call: gives it to theriac; what it returns is the answer.
        right: what is wrong with an answer; None if it is right.
        refused: what is wrong with a refusal of this message; None if it is right.
    """

    shown: str
    call: Callable[[], object]
    right: Callable[[Any], str | None] = lambda _: None
    refused: Callable[[str], str | None] = lambda _: None


Run = Callable[..., Printed]
"""Runs a command: takes its words."""

Kind = Callable[[Random, Path, Run], Case]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How an input ended.

    Attributes:
        result: "right", "refused" (as it should be) or "failed".
        detail: the message of a refusal, or what is wrong, with the place of an exception.
        shown: the input in a line.
        seconds: wall-clock.
        grown: bytes of memory at the peak, beyond those before.
    """

    result: Result
    detail: str
    shown: str
    seconds: float = 0.0
    grown: int = 0


def never(answer: object) -> str:
    """For inputs that have no answer."""
    return f"answered {str(answer)[:80]!r}, where only a refusal is right"


def unwanted(message: str) -> str:
    """For inputs that must be answered."""
    return f"refused, where there is a right answer: {message}"


def names(*words: str) -> Callable[[str], str | None]:
    """A refusal that must hold all of ``words``."""

    def judge(message: str) -> str | None:
        lacking = [word for word in words if word not in message]
        return f"the message lacks {lacking[0]!r}: {message}" if lacking else None

    return judge


def command(*words: str, streams: Callable[[], tuple[str, str]]) -> Printed:
    """Run a command in this process; ``streams`` gives what stdout and stderr got since its last call."""
    streams()
    status = cli.run(list(words))
    out, err = streams()
    return Printed(status=status, out=out, err=err)


def judged(case: Case) -> Verdict:
    """Give the input to theriac and judge what comes back."""
    try:
        answer = case.call()
    except Accepted:
        return Verdict(result="right", detail="accepted", shown=case.shown)
    except BadInput as error:
        return _refusal(case, str(error))
    except BaseException as error:
        return _failure(case, f"{type(error).__name__} at {_place(error)}: {first_line(error)}")
    if isinstance(answer, Printed):
        return _judged_command(case, answer)
    complaint = case.right(answer)
    return _failure(case, complaint) if complaint else Verdict(result="right", detail="", shown=case.shown)


def _judged_command(case: Case, answer: Printed) -> Verdict:
    errors = [line for line in answer.err.split("\n")[:-1] if not line.startswith("warning: ")]
    if "Traceback" in answer.err:
        return _failure(case, f"traceback: {errors[-1] if errors else ''}")
    raw = UNSAFE.search(answer.err) or ("csv" not in case.shown and UNSAFE.search(answer.out))
    if raw:
        return _failure(case, f"raw character {raw[0]!r} in the output")
    if answer.status != 2:
        complaint = case.right(answer)
        return (
            _failure(case, complaint) if complaint else Verdict(result="right", detail="", shown=case.shown)
        )
    if answer.out or len(errors) != 1 or not errors[0].startswith("error: "):
        return _failure(case, f"not one line on stderr alone: {answer.out[:60]!r} {answer.err[:200]!r}")
    return _refusal(case, errors[0].removeprefix("error: "))


def _refusal(case: Case, message: str) -> Verdict:
    if not message.strip() or "\n" in message or UNSAFE.search(message):
        return _failure(case, f"the message is not one clean line: {message[:200]!r}")
    complaint = case.refused(message)
    if complaint:
        return _failure(case, complaint)
    return Verdict(result="refused", detail=message, shown=case.shown)


def _failure(case: Case, detail: str) -> Verdict:
    return Verdict(result="failed", detail=detail, shown=case.shown)


def _place(error: BaseException) -> str:
    """The innermost line of theriac that an exception went through, tests left out."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
    own = [f for f in frames if "tests/fuzz" not in f.filename and not f.filename.startswith(sys.base_prefix)]
    last = (own or frames)[-1]
    return f"{Path(last.filename).parent.name}/{Path(last.filename).name}:{last.name}"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says."""
    return (str(error).strip().splitlines() or [""])[0][:200]


def shown(value: object, limit: int = 160) -> str:
    """A value in one short line."""
    text = ascii(value)
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text)} characters)"


def misspelt(rng: Random, word: str, known: Sequence[str] = ()) -> str:
    """A name with one slip of the fingers, which is none of ``known``."""
    while True:
        at = rng.randrange(len(word) - 1)
        slip = rng.choice(("swap", "drop", "double"))
        middle = {
            "swap": word[at + 1] + word[at],
            "drop": word[at + 1],
            "double": word[at] * 2 + word[at + 1],
        }
        found = word[:at] + middle[slip] + word[at + 2 :]
        if found != word and found not in known:
            return found


ESCAPES = ("\x1b[31mred\x1b[0m", "a\nb", "a\rb", "\u202egnp.exe", "\x9b2Jx", "\x07bell", "a\u2028b", "\x7f")
"""Texts that would move the cursor of a terminal, colour it, end a line or turn the direction of reading."""

TEXTS = (
    "",
    " ",
    "é",
    "🦠",
    "[bold]x[/]",
    "{}",
    "%s%n",
    "a" * 5000,
    "../../x",
    "~nobody/x",
    "no",
    "1e3",
    "0x10",
    "=1+1",
    "none",
    "null",
    "-1",
    "NaN",
    *ESCAPES,
)

NUMBERS = (0, 1, -1, 2, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.0, -0.0, 0.5, 1.5, 1e308, 5e-324, -2.5)

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    *NUMBERS,
    float("inf"),
    float("nan"),
    *TEXTS,
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    {"name": "xlf"},
    [1, "two"],
    ["a"] * 300,
)
"""Values of wrong and odd types."""


def damaged(rng: Random, data: bytes) -> tuple[str, bytes]:
    """What happens to files: how, and what is left."""
    how = rng.choice(("truncated", "flipped", "zeroed", "doubled", "cut", "empty", "other"))
    at = rng.randrange(max(1, len(data)))
    if how == "flipped":
        changed = bytearray(data)
        changed[at] ^= 1 << rng.randrange(8)
        return f"bit flipped in byte {at}", bytes(changed)
    pieces = {
        "truncated": data[:at],
        "zeroed": data[:at] + bytes(len(data) - at),
        "doubled": data + data[at:],
        "cut": data[:at] + data[at + rng.randrange(1, 64) :],
        "empty": b"",
        "other": rng.randbytes(rng.randrange(1, 400)),
    }
    return f"{how} at {at}", pieces[how]
