"""The methods that train, by name, and what their hyperparameters may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import BadInput, explain_validation
from ..unlearning.fine_pruning import FinePruning
from ..unlearning.fine_tuning import CleanFineTuning, FineTuneOnClean, FineTuneOnRetain
from ..unlearning.gradient_ascent import NPO, RGA, GradientAscent
from ..unlearning.ibau import IBAU
from ..unlearning.nad import NeuralAttentionDistillation
from ..unlearning.neural_cleanse import NeuralCleanse
from ..unlearning.training import Recipe
from ..unlearning.unlearner import Unlearner
from .spaces import Dimension, Parameters
from .sweep_tree import closest

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


def check_parameters(method: str, parameters: Parameters) -> None:
    """Whether the method has these hyperparameters, and takes these values.

    Raises:
        ValueError: what is wrong with the first that it has not.
    """
    unlearner(method, parameters)


def check_space(method: str, space: Mapping[str, Dimension], fixed: Parameters) -> None:
    """Whether the method has these hyperparameters, and takes the bounds and choices of each.

    Raises:
        ValueError: what is wrong with the first that it has not.
    """
    for name, dimension in space.items():
        if name not in TRAINED[method].model_fields:
            valid = ", ".join(TRAINED[method].model_fields)
            raise ValueError(
                f"unknown hyperparameter {name!r} of {method}; choose among {valid}"
                f"{closest(name, TRAINED[method].model_fields)}"
            )
        for value in dimension.extremes:
            unlearner(method, {**fixed, name: value})
