"""What can be chosen about a healing: method, granularity, the search and its bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from ..errors import explain_validation
from ..unlearning.kinds import Granularity, Kind, Precision
from .grid import GridFields, TPEFields
from .guarded import GuardedFields
from .own_settings import SearchFields
from .ptn import PTNFields

Method = Literal["ssd", "lf", "xlf"]
METHODS: dict[str, Kind] = {"ssd": "fim", "lf": "lf", "xlf": "xlf"}

Search = Literal["ptn", "grid", "tpe", "guarded"]
SEARCH_FIELDS: dict[Search, type[SearchFields]] = {
    "ptn": PTNFields,
    "grid": GridFields,
    "tpe": TPEFields,
    "guarded": GuardedFields,
}
SEARCHES: dict[str, tuple[str, ...]] = {name: tuple(own.model_fields) for name, own in SEARCH_FIELDS.items()}
"""Search -> the settings that not all searches have; those that lack one refuse it."""


ALL_FOREIGN = tuple(dict.fromkeys(name for own in SEARCHES.values() for name in own))
"""Those settings, each once."""


def refuse_foreign(search: str | None, field: str | None) -> None:
    """Whether a search uses a field that not all searches have; one that is no search is not judged.

    Raises:
        ValueError: it does not; names those that do.
    """
    if search in SEARCHES and field not in SEARCHES[search]:
        others = " or ".join(repr(name) for name, own in SEARCHES.items() if field in own)
        raise ValueError(
            f"the search {search!r} does not use this; leave it out, or choose the search {others}"
        )


class _Choice(SearchFields):
    """What the other settings depend on: pydantic validates the fields of the last base first."""

    method: Method = "xlf"
    granularity: Granularity = "sample"
    search: Search = "ptn"


class HealSettings(GuardedFields, TPEFields, GridFields, PTNFields, _Choice):
    """Settings of a healing by dampening; every value is validated, unknown ones are refused.

    So are settings of a search that was not chosen, whatever their value; dumps leave them out. Each search
    says in its own class what can be chosen about it.

    Attributes:
        method: which importances: "ssd" (fim), "lf" or "xlf".
        granularity: "sample" as the papers write, "batch" as the authors' programs compute.
        search: how alpha is found: "ptn" stops where the found poison is forgotten; "grid" tries pairs of
            alpha and lambda, as Goel et al. do, and takes the best; "tpe" samples such pairs, each from what
            those before were worth, and takes the best; "guarded" (ours) finds hidden poison in retain from
            the first of it, and dampens while that heals and other samples of retain do not suffer.
        collapse_drop: the status is "collapsed" if accuracy on retain samples that are not of a target class
            falls by more than this share.
        collapse_share: the status is also "collapsed" if one class gains more than this share of all retain
            predictions.
        compared: how many samples of retain, drawn at random, the model before and after is compared on: for
            the report, "collapsed" and an automatic rho; "all" of them take two forward passes.
        precision: of the importances: "float32" (at least), or "bfloat16" or "float16" under autocast, faster
            where there are matrix units; see `estimate_importances` for what that changes.
        batch_size: samples per forward pass, and per batch of granularity "batch".
    """

    collapse_drop: float = Field(default=0.1, gt=0, le=1)
    collapse_share: float = Field(default=0.25, gt=0, le=1)
    compared: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    precision: Precision = "float32"
    batch_size: int = Field(default=512, ge=1)

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
    def kind(self) -> Kind:
        """The importance the method works with."""
        return METHODS[self.method]

    @property
    def measured_in(self) -> Precision:
        """The precision of the passes of a guarded search."""
        return self.precision if self.probe_precision == "same" else self.probe_precision

    @property
    def setting_count(self) -> int | None:
        """How many settings the search evaluates; None where it cannot know (ptn, guarded)."""
        return SEARCH_FIELDS[self.search].evaluated(self)


def heal_settings(**values: Any) -> HealSettings:
    """`HealSettings` from keywords.

    Raises:
        BadInput: names the unknown setting, or the value and its bounds.
    """
    try:
        return HealSettings(**values)
    except ValidationError as error:
        raise explain_validation(error, "settings", HealSettings.model_fields) from error
