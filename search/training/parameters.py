"""The hyperparameters of methods that train: as given, as they are by default, and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue, ValidationError

from ...errors import BadInput, closest, explain_validation
from ...unlearning.methods import Unlearner
from ...unlearning.training import Recipe
from .registry import TRAINED_METHODS, TrainedEntry
from .spaces import Choice, Dimension, Parameters, Range, Space

NAME = "named"
"""In place of the hyperparameters themselves: a name under which a method publishes some."""


def unlearner(method: str, parameters: Mapping[str, Any]) -> Unlearner:
    """Make a method of these hyperparameters, and of its defaults for all others.

    ``named`` among them puts published ones in place of the defaults.

    Args:
        method: one of `TRAINED_METHODS`.
        parameters: hyperparameters by name; unknown ones are refused.

    Raises:
        BadInput: an unknown hyperparameter (the valid ones are listed), or a value out of bounds.

    Example:
        >>> unlearner("npo", {"steps": 50}).steps
        50
    """
    entry, given = TRAINED_METHODS[method], dict(parameters)
    kind = entry.load()
    try:
        return kind.model_validate({**_named(entry, given.pop(NAME, None)), **given})
    except ValidationError as error:
        valid = [*kind.model_fields, *([NAME] if entry.published else [])]
        raise explain_validation(error, f"method {method}", valid) from error


def _named(entry: TrainedEntry, name: Any) -> dict[str, Any]:
    if name is None:
        return {}
    if name not in entry.published:
        known = (
            f"choose one of {', '.join(entry.published)}{closest(name, entry.published)}"
            if entry.published
            else "it has none; leave it out"
        )
        raise BadInput(f"method {entry.name}: {NAME} = {name!r}: no hyperparameters of that name; {known}")
    published: Unlearner = getattr(entry.load(), name)()
    return published.model_dump(mode="json")


def from_recipe(method: str, recipe: Recipe) -> dict[str, Any]:
    """Return what a method takes from the victim's recipe, in place of its defaults.

    Args:
        method: one of `TRAINED_METHODS`.
        recipe: with which the victim was trained.
    """
    taken = TRAINED_METHODS[method].recipe
    if taken is None:
        return {}
    return recipe.model_dump(mode="json") if taken == "all" else {taken: getattr(recipe, taken)}


def defaults(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyperparameters of a method as JSON has them, with ``given`` in place of defaults.

    Args:
        method: one of `TRAINED_METHODS`.
        given: hyperparameters by name, which stand in place of defaults.
    """
    return unlearner(method, given).model_dump(mode="json")


def check_parameters(method: str, parameters: Parameters) -> Parameters:
    """Return the hyperparameters as the method takes them: "1e-3", text to YAML, and 0.001 are one.

    Raises:
        ValueError: the method has none of that name, or does not take the value.
    """
    taken = unlearner(method, parameters).model_dump(mode="json")
    return {name: _as_taken(name, value, taken.get(name, value)) for name, value in parameters.items()}


def _as_taken(name: str, given: JsonValue, taken: JsonValue) -> JsonValue:
    """Return the value in force for what was ``given``; of a mapping, what was given of it."""
    if isinstance(given, dict) and isinstance(taken, dict):
        return {key: _as_taken(f"{name}.{key}", value, taken.get(key, value)) for key, value in given.items()}
    if isinstance(given, bool) and isinstance(taken, int | float) and not isinstance(taken, bool):
        raise BadInput(f"{name} = {given}: give a number, not true or false")
    return taken + 0.0 if isinstance(taken, float) else taken  # -0.0 is 0.0


def check_space(method: str, space: Space, fixed: Parameters) -> Space:
    """Return the space with its choices as the method takes them; bounds are numbers already.

    Raises:
        ValueError: the method has no hyperparameter of that name, does not take a bound or a choice, or two
            choices are the same.
    """
    return {name: _checked_dimension(method, name, one, fixed) for name, one in space.items()}


def _checked_dimension(method: str, name: str, dimension: Dimension, fixed: Parameters) -> Dimension:
    known = TRAINED_METHODS[method].load().model_fields
    if name not in known:
        raise ValueError(
            f"unknown hyperparameter {name!r} of {method}; choose among {', '.join(known)}"
            f"{closest(name, known)}"
        )
    taken = [check_parameters(method, {**fixed, name: value})[name] for value in dimension.extremes]
    if isinstance(dimension, Range):
        return dimension
    if len({repr(value) for value in taken}) < len(taken):
        raise ValueError(f"{name}: of the choices {list(dimension.choices)} two are the same; leave one out")
    return Choice.model_validate({"choices": taken})
