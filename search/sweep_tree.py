"""Sweep files as plain mappings and lists: reading, overriding, merging, and naming what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import BadInput, shortened, wanted
from ..errors import closest as closest  # others look for it here

Tree = dict[str, Any]


def read_yaml(text: str, origin: str) -> Any:
    """The one document in ``text``, read by safe_load.

    Raises:
        BadInput: a syntax error or a key that comes twice in one mapping (with the line), a node inside
            itself, or a number that is not finite.
    """
    try:
        _refuse_twins(yaml.compose(text, Loader=yaml.SafeLoader), origin, ())
        tree = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(f"{origin}: {_yaml_problem(error)}; correct the YAML") from error
    for path, value in leaves(tree):
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"{origin}: {path} = {value}: give a finite number")
    return tree


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return str(error).splitlines()[0]


def _refuse_twins(node: yaml.Node | None, origin: str, above: tuple[int, ...]) -> None:
    if id(node) in above:
        raise BadInput(f"{origin}: line {node.start_mark.line + 1}: the node holds itself; write it out")  # type: ignore[union-attr]
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise BadInput(
                        f"{origin}: line {line}: the key {key.value!r} is in line {seen[key.value]} already; "
                        f"keep one of them"
                    )
                seen[key.value] = line
            _refuse_twins(value, origin, (*above, id(node)))
    if isinstance(node, yaml.SequenceNode):
        for part in node.value:
            _refuse_twins(part, origin, (*above, id(node)))


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted path and the value of everything that is no mapping and no list."""
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from leaves(value, join(path, key))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from leaves(value, join(path, number))
    else:
        yield path, tree


def join(path: str, key: object) -> str:
    """``a.b`` from ``a`` and ``b``; the top has the empty path."""
    return f"{path}.{key}" if path else str(key)


def override(tree: Tree, assignments: Sequence[str]) -> Tree:
    """A copy of ``tree`` with each ``dotted.path=value`` put in, in order; values are YAML.

    A name where a mapping is meant (a scenario preset, a model, a trigger) becomes the mapping that holds it.

    Raises:
        BadInput: no "=", no value, bad YAML, or a path that goes into a list or a number.
    """
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        keys = path.strip().split(".")
        value = read_yaml(text, f"--set {assignment}") if equals else None
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
    """``over`` on top of ``base``, mapping by mapping.

    Something with another ``name`` (a model, a trigger) is another thing: it takes nothing from the base.
    """
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return over
    if over.get("name", base.get("name")) != base.get("name"):
        return dict(over)
    return {**base, **{key: merge(base.get(key), value) for key, value in over.items()}}


def refuse_unknown_keys(given: Mapping[Any, Any], valid: Iterable[str], path: str, origin: str) -> None:
    """Every key of the mapping at ``path`` must be a valid one.

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
    """The first finding of pydantic about ``tree``, which stands at ``path`` of ``origin``.

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
