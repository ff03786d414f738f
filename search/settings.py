"""What can be chosen about a healing: method, granularity, the search and its bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from ..errors import explain_validation
from .grid import GridFields, TPEFields
from .guarded import GuardedFields
from .own_settings import METHODS, Method, SearchFields
from .ptn import PTNFields
from .searches import SEARCH_ENTRIES

__all__ = [
    "ALL_FOREIGN",
    "METHODS",
    "SEARCHES",
    "HealSettings",
    "Method",
    "Search",
    "heal_settings",
    "refuse_foreign",
]

SEARCHES: dict[str, tuple[str, ...]] = {
    name: tuple(field for field in entry.fields.model_fields if field not in SearchFields.model_fields)
    for name, entry in SEARCH_ENTRIES.items()
}
"""Search -> the settings that not all searches have; those that lack one refuse it."""


ALL_FOREIGN = tuple(dict.fromkeys(name for own in SEARCHES.values() for name in own))
"""Those settings, each once."""

# a type checker sees texts, whoever reads the annotation while theriac runs sees the choices
if TYPE_CHECKING:
    Search = str
else:
    Search = Literal[tuple(SEARCH_ENTRIES)]


def refuse_foreign(search: str | None, field: str | None) -> None:
    """Refuse a field that a search does not use; what is no search is not judged.

    Raises:
        ValueError: it does not; names those that do.
    """
    if search in SEARCHES and field not in SEARCHES[search]:
        others = " or ".join(repr(name) for name, own in SEARCHES.items() if field in own)
        raise ValueError(
            f"the search {search!r} does not use this; leave it out, or choose the search {others}"
        )


class HealSettings(GuardedFields, TPEFields, GridFields, PTNFields):
    """Settings of a healing by dampening; every value is validated, unknown ones are refused.

    So are settings of a search that was not chosen, whatever their value; dumps leave them out. Each search
    says in its own class what can be chosen about it.

    Example:
        >>> from theriac.search.settings import HealSettings
        >>> settings = HealSettings(method="lf", search="grid", alphas=(1.0, 10.0))
        >>> settings.kind, settings.setting_count
        ('lf', 10)
    """

    search: Search = "ptn"

    @field_validator(*ALL_FOREIGN, mode="before")
    @classmethod
    def _of_the_search(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what would be ignored; pydantic calls this for given values only."""
        refuse_foreign(info.data.get("search"), info.field_name)
        return value

    @model_serializer(mode="wrap")
    def _in_force(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name not in self._unused()}

    def _unused(self) -> tuple[str, ...]:
        return tuple(name for name in ALL_FOREIGN if name not in SEARCHES[self.search])

    @property
    def setting_count(self) -> int | None:
        """Return how many settings the search evaluates; None where it cannot know (ptn, guarded)."""
        fields: type[SearchFields] = SEARCH_ENTRIES[self.search].fields
        return fields.evaluated(self)


def heal_settings(**values: Any) -> HealSettings:
    """Make `HealSettings` from keywords.

    Raises:
        BadInput: names the unknown setting, or the value and its bounds.

    Example:
        >>> heal_settings(method="xlf", rho=0.1).rho
        0.1
    """
    try:
        return HealSettings(**values)
    except ValidationError as error:
        raise explain_validation(error, "settings", HealSettings.model_fields) from error
