"""Numbers of sweep files, which mean what they look like: YAML 1.1 reads some in base 8 or 60."""

from __future__ import annotations

import re
from typing import Any

import yaml

INT, FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"

LEADING_ZERO = re.compile(r"[-+]?0[0-9_]+")
"""Base 8 in YAML 1.1 (``010`` is 8), text if a digit is above 7 (``08``), and base 10 in YAML 1.2."""
_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(_[0-9]{3})+(\.[0-9]*)?([eE][-+]?[0-9]+)?")
"""Thousands set apart, as in ``50_000``."""
_SHOWN = 40


def doubt(text: str) -> str | None:
    """Say why a number may be read as another one than was meant, and what to write; None if it cannot.

    Args:
        text: that YAML takes for a number.
    """
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    if ":" in text:
        return f"YAML reads {shown} in base 60; write a decimal number, or {shown!r} in quotes if it is text"
    if LEADING_ZERO.fullmatch(text):
        sign, digits = text[0] if text[0] in "+-" else "", text.lstrip("+-").replace("_", "").lstrip("0")
        return (
            f"{shown} begins with 0, and YAML reads such numbers in base 8; write "
            f"{sign}{digits[:_SHOWN] or '0'}, or {shown!r} in quotes if it is text"
        )
    if "_" in text and not _GROUPED.fullmatch(text):
        return f"{shown} has _ where no thousands end; write the number without"
    return None


def construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """Read a whole number: decimal, ``0x`` and ``0b``.

    Raises:
        ConstructorError: another number may be meant.
    """
    _refuse_doubtful(node)
    return yaml.SafeLoader.construct_yaml_int(loader, node)


def construct_float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    """Read a decimal number.

    Raises:
        ConstructorError: another number may be meant.
    """
    _refuse_doubtful(node)
    return yaml.SafeLoader.construct_yaml_float(loader, node)


def _refuse_doubtful(node: yaml.ScalarNode) -> None:
    reason = doubt(str(node.value))
    if reason:
        raise yaml.constructor.ConstructorError(None, None, reason, node.start_mark)


class Dumper(yaml.SafeDumper):
    """Puts text in quotes that would be taken for a number, ``08`` among it."""


def take_for_numbers(kind: Any) -> None:
    """Let a loader or dumper take for a number whatever begins with 0 and holds digits alone."""
    kind.add_implicit_resolver(INT, re.compile(f"^(?:{LEADING_ZERO.pattern})$"), list("-+0"))


take_for_numbers(Dumper)
