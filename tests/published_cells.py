"""Which tasks of its presets belong to a cell of a published table: a slow, obvious reading of filters."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from theriac.search.report.published import PublishedTable
from theriac.search.sweep import Task, load_sweep

TOKEN = re.compile(r"<=|>=|!=|[=<>(),]|[\w.][\w.+-]*")
COMPARISONS = ("=", "!=", "<", "<=", ">", ">=", "in")
KEPT = ("and", "or", "not", "in", "(", ")", ",", "<", "<=", ">", ">=", "!=")

COLUMNS = {"recipe": "recipe", "gate": "gate", "trigger": "attack_settings", "several": "attack_settings"}
"""Fields that results hold together in one column."""

Fields = Mapping[str, Any]


class Word(str):
    """A text: it equals texts, and is neither smaller nor larger than anything."""

    __slots__ = ()

    def __lt__(self, other: object) -> bool:
        return False

    __le__ = __gt__ = __ge__ = __lt__


def tokens(text: str) -> list[str]:
    """Split a filter; nothing may be left over."""
    found = TOKEN.findall(text)
    assert "".join(found) == re.sub(r"\s", "", text), f"what is {text!r}?"
    return found


def asked(text: str) -> set[str]:
    """Return the fields that a filter asks for."""
    words = tokens(text)
    return {word for word, after in itertools.pairwise(words) if after in COMPARISONS}


@cache
def matcher(text: str) -> Callable[[Fields], bool]:
    """Translate a filter into a function of a task's fields, by way of Python's own expressions."""
    fields, source = asked(text), []
    for word in tokens(text):
        if word in fields:
            source.append(f"fields.get({word!r}, Word())")
        elif word in KEPT or word == "=":
            source.append("==" if word == "=" else word)
        else:
            source.append(repr(number(word)))
    code = compile(" ".join(source) or "True", text, "eval")
    return lambda values: bool(eval(code, {"__builtins__": {}}, {"fields": values, "Word": Word}))


def number(word: str) -> float | str:
    """Return a number, or the word as it is."""
    try:
        return float(word)
    except ValueError:
        return word


@cache
def fields_of(preset: str) -> tuple[Fields, ...]:
    """Return what filters may ask of each task of a preset: fields of the scenario, the cell and settings."""
    return tuple(dict(_fields(task)) for task in load_sweep(preset).tasks())


def _fields(task: Task) -> Iterator[tuple[str, Any]]:
    scenario, cell = task.scenario, task.cell
    tree = scenario.model_dump(mode="json")
    yield from _leaves("", {"attack": scenario.attack.name, "model": scenario.model.name})
    yield from _leaves(
        "", {"width": scenario.model.width, **tree["attack"], "label_rule": scenario.attack.label_rule}
    )
    yield from _leaves("", {name: tree[name] for name in ("dataset", "image_size", "manipulated", "seed")})
    yield from _leaves("", {name: tree[name] for name in ("recipe", "gate")})
    yield from _leaves("", {"held_back": scenario.held_back.model_dump()})
    yield from _leaves("", {"share": cell.share, "method": cell.method, "search": cell.search})
    yield from _leaves("", cell.settings.model_dump(mode="json") if cell.settings else {})


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Name what lies inside by dotted names; what is null is no field."""
    if isinstance(value, Mapping):
        for name, inside in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, inside)
    elif isinstance(value, bool | str):
        yield path, Word(value)
    elif value is not None:
        yield path, value if isinstance(value, int | float) else Word(value)


def tasks_of(table: PublishedTable, text: str) -> list[Fields]:
    """Return the tasks of a table's presets that a filter lets pass."""
    return [fields for preset in table.presets for fields in fields_of(preset) if matcher(text)(fields)]


def differing(tasks: list[Fields]) -> set[str]:
    """Return the columns of results in which tasks differ, and the settings."""
    names = {name for fields in tasks for name in fields}
    differ = {name for name in names if len({fields.get(name) for fields in tasks}) > 1}
    return {COLUMNS.get(name.split(".")[0], name) for name in differ}
