"""All triggers by name: what an attacker adds to an image. Pure functions on batches of images in [0, 1]."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Discriminator, Tag, ValidationError

from ...errors import BadInput
from ..own_code import is_own
from .base import Trigger
from .own import OwnTrigger
from .patches import BadNets, MovingPatch, TrojanSquare, TrojanWatermark
from .perturbations import L0, L2, Sine, Smooth
from .pictured import Additive, Blend, Masked, Semantic
from .warps import WaNet

_TRIGGERS: tuple[type[Trigger], ...] = (
    BadNets,
    MovingPatch,
    Sine,
    Blend,
    Additive,
    Masked,
    TrojanSquare,
    TrojanWatermark,
    L0,
    L2,
    Smooth,
    WaNet,
    Semantic,
)
TRIGGERS: dict[str, type[Trigger]] = {kind.model_fields["name"].default: kind for kind in _TRIGGERS}
"""Name -> trigger; a new one is a class in a module beside this, and a line above."""


def is_trigger(name: Any) -> bool:
    """Tell whether a trigger has this name: one of `TRIGGERS`, or a part of the user's own."""
    return isinstance(name, str) and (name in TRIGGERS or is_own(name, "triggers"))


def parse_trigger(given: str | Mapping[str, Any]) -> Trigger:
    """Make a trigger from its name, or from a mapping with its ``name`` and any of its settings.

    Raises:
        BadInput: unknown name (the valid ones are listed), unknown, missing or invalid setting.

    Example:
        >>> from theriac.datasets.triggers import parse_trigger
        >>> parse_trigger({"name": "moving", "size": 5}).size
        5
    """
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = settings.get("name")
    if isinstance(name, str) and is_own(name, "triggers"):
        return OwnTrigger.model_validate(settings)
    if not isinstance(name, str) or name not in TRIGGERS:
        close = difflib.get_close_matches(str(name), TRIGGERS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise BadInput(f"unknown trigger name {name!r}; choose one of {', '.join(TRIGGERS)}{hint}")
    try:
        return TRIGGERS[name].model_validate(settings)
    except ValidationError as error:
        raise _first_problem(name, error) from error


def _tag(given: Any) -> str | None:
    """Tell which of the classes of `AnyTrigger` is meant."""
    name = given.get("name") if isinstance(given, Mapping) else getattr(given, "name", None)
    return "own" if isinstance(name, str) and name not in TRIGGERS and is_own(name, "triggers") else name


# a type checker sees triggers, whoever reads the annotation while theriac runs sees each class by its name
if TYPE_CHECKING:
    AnyTrigger = Trigger
else:
    _TAGGED = tuple(Annotated[kind, Tag(name)] for name, kind in TRIGGERS.items())
    AnyTrigger = Annotated[Union[(*_TAGGED, Annotated[OwnTrigger, Tag("own")])], Discriminator(_tag)]


def _first_problem(name: str, error: ValidationError) -> BadInput:
    problem = error.errors(include_url=False)[0]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, BadInput):
        return cause
    setting = ".".join(str(part) for part in problem["loc"])
    valid = ", ".join(field for field in TRIGGERS[name].model_fields if field != "name")
    if problem["type"] == "missing":
        return BadInput(f"trigger {name} needs {setting}; give it (its settings are {valid})")
    return BadInput(
        f"trigger {name}: {setting} = {problem['input']!r}: {problem['msg']}; its settings are {valid}"
    )
