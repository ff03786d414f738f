"""Sweep files as plain mappings and lists: reading, overriding, merging, and naming what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from ...errors import BadInput, closest, shortened, wanted
from .yaml_numbers import FLOAT, INT, construct_float, construct_int, take_for_numbers

Tree = dict[str, Any]

MOST_CHARACTERS = 1 << 17
"""Longest text of YAML; sweep files have a hundredth of it."""
MOST_DEPTH = 32
"""Most mappings and lists inside one another."""
MOST_SHOWN = 400
"""Longest value that a message repeats."""
MOST_NODES = 50_000
"""Most values of a document, counting what aliases stand for every time."""


def read_yaml(text: str, origin: str) -> Any:
    """Read the one document in ``text`` as safe_load does, but for numbers that may mean another one.

    Raises:
        BadInput: a syntax error or a key that comes twice in one mapping (with the line), a node inside
            itself, more than `MOST_DEPTH` levels or `MOST_NODES` values once aliases are written out, a
            number that is not finite, has more than 64 bits, or is none in base 10 to YAML (``010``,
            ``1:30``), a date, or another value that YAML alone has.
    """
    if len(text) > MOST_CHARACTERS:
        raise BadInput(
            f"{origin}: {len(text)} characters of YAML, and at most {MOST_CHARACTERS} are read; shorten it"
        )
    try:
        tree = _read(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{origin}: {_yaml_problem(error)}; correct the YAML") from error
    for path, value in leaves(tree):
        reason = _no_setting(value)
        if reason:
            raise BadInput(f"{origin}: {path or 'it'}{reason}")
    return tree


def _read(text: str) -> Any:
    loader = _BoundedLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        problem = str(error.problem).removeprefix("but ")
        return f"line {error.problem_mark.line + 1}: {problem}"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if "integer string conversion" in str(error):
        return "a whole number of thousands of digits"
    return (str(error).splitlines() or [type(error).__name__])[0]


def _no_setting(value: object) -> str | None:
    """Tell why a value is none that a sweep can have, with the remedy; None if it is one."""
    if isinstance(value, float) and not math.isfinite(value):
        return f" = {value}: give a finite number"
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return " is a whole number of more than 64 bits: give a smaller one"
    if value is not None and not isinstance(value, str | int | float):
        return f" is a YAML {type(value).__name__}, not text or a number; put it in quotes if it is text"
    return None


class _BoundedLoader(yaml.SafeLoader):
    """Stops at what would take forever, or all memory, before it does."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._extent: dict[int, tuple[int, int]] = {}  # id of a node -> values and levels, written out
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node, as the parent class does, if it is within the bounds."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"more than {MOST_DEPTH} levels", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if alias and id(node) not in self._extent:
            raise yaml.MarkedYAMLError(problem="the node holds itself; write it out", problem_mark=mark)
        if node is not None and not alias:
            self._measure(node)
        return node

    def _measure(self, node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            _refuse_twins(node)
            inner = [part for pair in node.value for part in pair]
        else:
            inner = node.value if isinstance(node, yaml.SequenceNode) else []
        extents = [self._extent[id(part)] for part in inner]
        values, levels = 1 + sum(one for one, _ in extents), 1 + max((n for _, n in extents), default=0)
        self._extent[id(node)] = (values, levels)
        if values > MOST_NODES or levels > MOST_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MOST_NODES} values or {MOST_DEPTH} levels, aliases written out",
                problem_mark=node.start_mark,
            )


_BoundedLoader.add_constructor(INT, construct_int)
_BoundedLoader.add_constructor(FLOAT, construct_float)
take_for_numbers(_BoundedLoader)


def _refuse_twins(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r:.60} is in line {seen[key.value]} already; keep one",
                    problem_mark=key.start_mark,
                )
            seen[key.value] = line


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of everything that is no mapping and no list."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, join(path, key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from leaves(value, join(path, number))
    else:
        yield path, tree


def join(path: str, key: object) -> str:
    """Join ``a`` and ``b`` to ``a.b``; the top has the empty path."""
    return f"{path}.{key}" if path else str(key)


def override(tree: Tree, assignments: Sequence[str]) -> Tree:
    """Copy ``tree`` with each ``dotted.path=value`` put in, in order; values are YAML.

    A name where a mapping is meant (a scenario preset, a model, a trigger) becomes the mapping that holds it.

    Args:
        tree: mappings, lists and scalars, as YAML has them; it is not changed.
        assignments: ``dotted.path=value`` each, in order.

    Raises:
        BadInput: no "=", no value, bad YAML, or a path that goes into a list or a number.

    Example:
        >>> override({"scenario": {"seed": 0}}, ["scenario.seed=3"])
        {'scenario': {'seed': 3}}
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        if len(keys) > MOST_DEPTH:
            raise BadInput(
                f"--set {assignment:.60}: {len(keys)} levels, and at most {MOST_DEPTH} are read; shorten it"
            )
        value = read_yaml(text, f"--set {assignment:.{MOST_SHOWN}}") if equals else None
        if value is None or not all(keys):
            raise BadInput(
                f"--set {assignment}: give key=value, such as --set scenario.recipe.iterations=500"
            )
        tree = _put(tree, keys, value, assignment)
    return tree


def _put(tree: Tree, keys: list[str], value: Any, assignment: str, path: str = "") -> Tree:
    key, rest = keys[0], keys[1:]
    if not rest:
        return {**tree, key: value}
    inner, place = tree.get(key, {}), join(path, key)
    if isinstance(inner, str):
        inner = {{"scenario": "preset", "attack": "trigger"}.get(key, "name"): inner}
    if not isinstance(inner, Mapping):
        raise BadInput(
            f"--set {assignment}: {place} is {inner!r}, which has no {rest[0]!r}; "
            f"give it whole: --set {place}=..."
        )
    return {**tree, key: _put(dict(inner), rest, value, assignment, place)}


def merge(base: Any, over: Any) -> Any:
    """Put ``over`` on top of ``base``, mapping by mapping.

    Something with another ``name`` (a model, a trigger) is another thing: it takes nothing from the base.
    """
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    if over.get("name", base.get("name")) != base.get("name"):
        return dict(over)
    return {**base, **{key: merge(base.get(key), value) for key, value in over.items()}}


def refuse_unknown_keys(given: Mapping[Any, Any], valid: Iterable[str], path: str, origin: str) -> None:
    """Refuse a key of the mapping at ``path`` that is no valid one.

    Raises:
        BadInput: the path of the first that is not, and the valid ones.
    """
    known = list(valid)
    for key in given:
        if key not in known:
            raise BadInput(
                f"{origin}: unknown key {join(path, key)!r}; the valid ones "
                f"{f'in {path} ' if path else ''}are {', '.join(known)}{closest(key, known)}"
            )


def explained(error: ValidationError, origin: str, tree: Any, path: str = "") -> BadInput:
    """Explain the first finding of pydantic about ``tree``, which stands at ``path`` of ``origin``.

    Pydantic's places also name the members of unions that it tried; only what leads through the tree is kept,
    and what the members of one union ask for is given together.
    """
    findings = error.errors(include_url=False)
    first = findings[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadInput):
        return BadInput(f"{origin}: {cause}")
    place = _place(first["loc"], tree)
    reasons = wanted([one for one in findings if _place(one["loc"], tree) == place])
    full = ".".join(filter(None, (path, place)))
    if first["type"] == "missing":
        return BadInput(f"{origin}: {full} is missing; give it")
    return BadInput(f"{origin}: {full} = {shortened(first['input'])}: {reasons}")


def _place(location: tuple[int | str, ...], tree: Any) -> str:
    kept, last = [], len(location) - 1
    for number, part in enumerate(location):
        inside = (isinstance(tree, Mapping) and part in tree) or (
            isinstance(tree, list | tuple) and isinstance(part, int) and part < len(tree)
        )
        if inside:
            tree = tree[part]
        if inside or (number == last and isinstance(tree, Mapping)):
            kept.append(str(part))
    return ".".join(kept)
