"""All triggers by name: what an attacker adds to an image. Pure functions on batches of images in [0, 1]."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError

from ...errors import BadInput
from .base import Trigger
from .patches import BadNets, MovingPatch, TrojanSquare, TrojanWatermark
from .perturbations import L0, L2, Sine, Smooth
from .pictured import Additive, Blend, Masked, Semantic
from .warps import WaNet

__all__ = [
    "L0",
    "L2",
    "TRIGGERS",
    "Additive",
    "AnyTrigger",
    "BadNets",
    "Blend",
    "Masked",
    "MovingPatch",
    "Semantic",
    "Sine",
    "Smooth",
    "Trigger",
    "TrojanSquare",
    "TrojanWatermark",
    "WaNet",
    "parse_trigger",
]

AnyTrigger = Annotated[
    BadNets
    | MovingPatch
    | Sine
    | Blend
    | Additive
    | Masked
    | TrojanSquare
    | TrojanWatermark
    | L0
    | L2
    | Smooth
    | WaNet
    | Semantic,
    Field(discriminator="name"),
]

TRIGGERS: dict[str, type[Trigger]] = {
    "badnets": BadNets,
    "moving": MovingPatch,
    "sine": Sine,
    "blend": Blend,
    "additive": Additive,
    "masked": Masked,
    "trojan_square": TrojanSquare,
    "trojan_watermark": TrojanWatermark,
    "l0": L0,
    "l2": L2,
    "smooth": Smooth,
    "wanet": WaNet,
    "semantic": Semantic,
}


def parse_trigger(given: str | Mapping[str, Any]) -> Trigger:
    """A trigger from its name, or from a mapping with its ``name`` and any of its settings.

    Raises:
        BadInput: unknown name (the valid ones are listed), unknown, missing or invalid setting.
    """
    settings = {"name": given} if isinstance(given, str) else dict(given)
    name = settings.get("name")
    if not isinstance(name, str) or name not in TRIGGERS:
        close = difflib.get_close_matches(str(name), TRIGGERS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise BadInput(f"unknown trigger name {name!r}; choose one of {', '.join(TRIGGERS)}{hint}")
    try:
        return TRIGGERS[name].model_validate(settings)
    except ValidationError as error:
        raise _first_problem(name, error) from error


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
