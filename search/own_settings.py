"""The settings that all searches have, and those that two of them share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from ..unlearning.kinds import KINDS, Granularity, Kind, Precision

METHODS: dict[str, Kind] = {kind.method: kind.name for kind in KINDS.values()}
"""Method that dampens -> the importance it works with."""

# a type checker sees texts, whoever reads the annotation while theriac runs sees the choices
if TYPE_CHECKING:
    Method = str
else:
    Method = Literal[tuple(METHODS)]


class SearchFields(BaseModel):
    """The settings that all searches have; those of each are fields of a subclass.

    Attributes:
        method: one of `METHODS`; which importances.
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

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: Method = "xlf"
    granularity: Granularity = "sample"
    search: str = "ptn"
    collapse_drop: float = Field(default=0.1, gt=0, le=1)
    collapse_share: float = Field(default=0.25, gt=0, le=1)
    compared: Annotated[int, Field(ge=1, le=2**31)] | Literal["all"] = "all"
    precision: Precision = "float32"
    batch_size: int = Field(default=512, ge=1, le=2**31)

    @property
    def kind(self) -> Kind:
        """Return the importance that the method works with."""
        return METHODS[self.method]

    def evaluated(self) -> int | None:
        """Return how many settings the search evaluates; None where it cannot know."""
        return None


class ConstantFields(SearchFields):
    """Lambda, where a search does not look for it.

    Attributes:
        dampening_constant: (ptn, guarded) lambda, above 0; smaller dampens selected weights more.
    """

    dampening_constant: float = Field(default=1.0, gt=0)


class HeldOutFields(SearchFields):
    """The samples of retain that pairs of alpha and lambda are judged on.

    Attributes:
        held_out: (grid, tpe) the best pair has the highest sum of accuracy lost on the found poison and
            gained on this many samples of retain, drawn at random (always the same ones; all, if there are
            fewer), labels as given. They may hold undiscovered poison, the model was trained on them, and
            they count in the importances of retain as well. They are kept in memory.
    """

    held_out: int = Field(default=1000, ge=1, le=2**31)
