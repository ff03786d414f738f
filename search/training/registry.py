"""The methods that train, by name, and what their hyperparameters may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import JsonValue, ValidationError

from ...errors import BadInput, closest, explain_validation
from ...unlearning.methods import (
    IBAU,
    NPO,
    RGA,
    CleanFineTuning,
    FinePruning,
    FineTuneOnClean,
    FineTuneOnRetain,
    GradientAscent,
    NeuralAttentionDistillation,
    NeuralCleanse,
    Unlearner,
)
from ...unlearning.training import Recipe
from .spaces import Choice, Dimension, Parameters, Range, Space

TRAINED: dict[str, type[Unlearner]] = {
    "cf": FineTuneOnRetain,
    "ft": FineTuneOnClean,
    "fp": FinePruning,
    "nad": NeuralAttentionDistillation,
    "nc": NeuralCleanse,
    "ibau": IBAU,
    "ga": GradientAscent,
    "npo": NPO,
    "rga": RGA,
}
"""Name -> hyperparameters; calling them unlearns."""

NAME = "named"
NAMED: dict[str, dict[str, Callable[[], Unlearner]]] = {
    "ibau": {"paper": IBAU.paper, "released": IBAU.released},
}
"""Method -> published hyperparameters that are not its defaults."""


def unlearner(method: str, parameters: Mapping[str, Any]) -> Unlearner:
    """The method with these hyperparameters, and its defaults for all others.

    ``named`` among them puts those of `NAMED` in place of the defaults.

    Raises:
        BadInput: an unknown hyperparameter (the valid ones are listed), or a value out of bounds.
    """
    kind, given = TRAINED[method], dict(parameters)
    try:
        return kind.model_validate({**_named(method, given.pop(NAME, None)), **given})
    except ValidationError as error:
        valid = [*kind.model_fields, *([NAME] if method in NAMED else [])]
        raise explain_validation(error, f"method {method}", valid) from error


def _named(method: str, name: Any) -> dict[str, Any]:
    if name is None:
        return {}
    names = NAMED.get(method, {})
    if name not in names:
        known = (
            f"choose one of {', '.join(names)}{closest(name, names)}"
            if names
            else "it has none; leave it out"
        )
        raise BadInput(f"method {method}: {NAME} = {name!r}: no hyperparameters of that name; {known}")
    return names[name]().model_dump(mode="json")


def from_recipe(method: str, recipe: Recipe) -> dict[str, Any]:
    """The hyperparameters that a method takes from the victim's recipe, in place of its defaults.

    CF takes all that they share, methods that end in fine-tuning on clean images how those are augmented.
    """
    if method == "cf":
        return recipe.model_dump(mode="json")
    return {"augmentation": recipe.augmentation} if issubclass(TRAINED[method], CleanFineTuning) else {}


def defaults(method: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All hyperparameters of a method, as JSON has them, with ``given`` in place of its own defaults."""
    return unlearner(method, given).model_dump(mode="json")


def check_parameters(method: str, parameters: Parameters) -> Parameters:
    """Return the hyperparameters as the method takes them: "1e-3", text to YAML, and 0.001 are one.

    Raises:
        ValueError: the method has none of that name, or does not take the value.
    """
    taken = unlearner(method, parameters).model_dump(mode="json")
    return {name: _as_taken(name, value, taken.get(name, value)) for name, value in parameters.items()}


def _as_taken(name: str, given: JsonValue, taken: JsonValue) -> JsonValue:
    """The value in force for what was ``given``; of a mapping, what was given of it."""
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
    if name not in TRAINED[method].model_fields:
        valid = ", ".join(TRAINED[method].model_fields)
        raise ValueError(
            f"unknown hyperparameter {name!r} of {method}; choose among {valid}"
            f"{closest(name, TRAINED[method].model_fields)}"
        )
    taken = [check_parameters(method, {**fixed, name: value})[name] for value in dimension.extremes]
    if isinstance(dimension, Range):
        return dimension
    if len({repr(value) for value in taken}) < len(taken):
        raise ValueError(f"{name}: of the choices {list(dimension.choices)} two are the same; leave one out")
    return Choice.model_validate({"choices": taken})
