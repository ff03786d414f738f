"""Triggers of users' own, which keep their settings until they are needed."""

from __future__ import annotations

from functools import lru_cache

from pydantic import ConfigDict, ValidationError
from torch import Tensor

from ...errors import BadInput, explain_validation
from ..own_code import own_part
from .base import Trigger


class OwnTrigger(Trigger):
    """A trigger by the name of a user's part, with any settings; its class is looked up when it is called.

    Results can be read where the code is not; what is wrong with the settings is said before anything runs,
    because every sweep tries its triggers on an image.

    Attributes:
        name: ``module:attribute`` or an entry point; a subclass of `Trigger`.
    """

    model_config = ConfigDict(extra="allow")

    def __hash__(self) -> int:
        """Hash the name; equality looks at the settings, too."""
        return hash(self.name)

    def _add(self, images: Tensor, index: Tensor) -> Tensor:
        return _made(self)(images, index)


@lru_cache(maxsize=64)
def _made(trigger: OwnTrigger) -> Trigger:
    kind, settings = own_part(trigger.name, "triggers"), trigger.model_extra or {}
    if not (isinstance(kind, type) and issubclass(kind, Trigger)):
        raise BadInput(
            f"{trigger.name} is no trigger; make it a subclass of theriac.datasets.triggers.Trigger"
        )
    try:
        return kind.model_validate({**settings, "name": _own_name(kind) or trigger.name})
    except ValidationError as error:
        valid = [name for name in kind.model_fields if name != "name"]
        raise explain_validation(error, f"trigger {trigger.name}", valid) from error


def _own_name(kind: type[Trigger]) -> str | None:
    default = kind.model_fields["name"].default
    return default if isinstance(default, str) else None
