"""What can be set about one method, as `theriac list methods NAME` shows it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from docstring_parser import parse
from pydantic import BaseModel

from ...errors import BadInput, closest
from ...search.methods import METHOD_ENTRIES
from ...search.settings import METHODS, HealSettings
from ...search.training import TRAINED_METHODS, Choice, Range, TrainedEntry, TuneSettings

WIDTH = 80
"""Columns that all lists fit, but for commands to be copied."""


def method_lines(name: str) -> list[str]:
    """List the settings of a method: their defaults, where they are looked for, and what they do.

    Raises:
        BadInput: there is no such method.
    """
    if name not in METHOD_ENTRIES:
        known = ", ".join(METHOD_ENTRIES)
        raise BadInput(f"unknown method {name!r}; choose one of {known}{closest(name, METHOD_ENTRIES)}")
    entry = METHOD_ENTRIES[name]
    head = [f"{name}: {entry.about}"]
    if name in METHODS:
        return [*head, *_fields("settings", HealSettings, {})]
    if name not in TRAINED_METHODS:
        return [*head, "  nothing can be set about it"]
    return [*head, *_trained(TRAINED_METHODS[name])]


def _trained(entry: TrainedEntry) -> Iterator[str]:
    spaces = {name: _space(dimension) for name, dimension in entry.space.items()}
    yield from _fields("hyperparameters (--set NAME=VALUE; in YAML below parameters)", entry.load(), spaces)
    if entry.published:
        yield f"  named = {' or '.join(entry.published)}"
        yield from _text("published hyperparameters in place of these defaults")
    yield from _fields("settings", TuneSettings, {})


def _space(dimension: Range | Choice) -> str:
    if isinstance(dimension, Choice):
        return f"one of {', '.join(map(str, dimension.choices))}"
    return f"{dimension.low:g} to {dimension.high:g}{', logarithmic' if dimension.log else ''}"


def _fields(title: str, kind: type[BaseModel], spaces: Mapping[str, str]) -> Iterator[str]:
    """Write each field on a line, and its text below; what is searched says where."""
    yield title
    texts = _texts(kind)
    for name, field in kind.model_fields.items():
        shown = "" if field.is_required() else f" = {_shown(field.get_default(call_default_factory=True))}"
        looked = f"   (looked for: {spaces[name]})" if name in spaces else ""
        yield f"  {name}{shown}{looked}"
        yield from _text(texts.get(name, ""))


def _texts(kind: type[BaseModel]) -> dict[str, str]:
    """Read what docstrings say of each field; where a base says something else, the class is right."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        for param in parse(base.__doc__ or "").params if issubclass(base, BaseModel) else ():
            found |= dict.fromkeys(param.arg_name.split(", "), param.description or "")
    return found


def _text(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), WIDTH, initial_indent="      ", subsequent_indent="      ")


def _shown(value: Any) -> str:
    if isinstance(value, BaseModel):
        return f"{{{', '.join(f'{name}: {_shown(one)}' for name, one in value.model_dump().items())}}}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_shown, value))}]"  # as in YAML
    return f"{value:g}" if isinstance(value, float) else str(value)
