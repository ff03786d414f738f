"""What can be chosen about a healing: method, granularity, the search and its bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import explain_validation
from ..unlearning.kinds import Granularity, Kind
from .ptn import PTNSearch, Strategy

Method = Literal["ssd", "lf", "xlf"]
METHODS: dict[str, Kind] = {"ssd": "fim", "lf": "lf", "xlf": "xlf"}


class HealSettings(BaseModel):
    """Settings of a healing by dampening; every value is validated, unknown ones are refused.

    Attributes:
        method: which importances: "ssd" (fim), "lf" or "xlf".
        granularity: "sample" as the papers write, "batch" as the authors' programs compute.
        rho: stop at this share of the victim's forget accuracy, in [0, 1); "auto" derives it from how often
            the victim predicts the target class on retain, which tasks of few classes need.
        b_start: the search starts at s = (|S_f| / |S_tr|) / b_start, above 0.
        s_step: factor on s from step to step, above 1; smaller is finer and slower.
        max_steps: steps of s_step after which a search that never crossed gives up.
        strategy: "plain" evaluates every step; "coarse_fine" every eighth until one crosses, and then those
            in between, which is faster and gives the same where the forget accuracy only falls.
        dampening_constant: lambda, above 0; smaller dampens selected weights more.
        collapse_drop: the status is "collapsed" if accuracy on retain samples that are not of a target class
            falls by more than this share.
        collapse_share: the status is also "collapsed" if one class gains more than this share of all retain
            predictions.
        batch_size: samples per forward pass, and per batch of granularity "batch".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Method = "xlf"
    granularity: Granularity = "sample"
    rho: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = 0.2
    b_start: float = Field(default=25.0, gt=0)
    s_step: float = Field(default=1.1, gt=1)
    max_steps: int = Field(default=500, ge=1)
    strategy: Strategy = "plain"
    dampening_constant: float = Field(default=1.0, gt=0)
    collapse_drop: float = Field(default=0.1, gt=0, le=1)
    collapse_share: float = Field(default=0.25, gt=0, le=1)
    batch_size: int = Field(default=512, ge=1)

    @property
    def kind(self) -> Kind:
        """The importance the method works with."""
        return METHODS[self.method]

    def search(self, rho: float) -> PTNSearch:
        """The search these settings ask for, with rho as a number."""
        return PTNSearch(
            rho=rho,
            b_start=self.b_start,
            s_step=self.s_step,
            max_steps=self.max_steps,
            strategy=self.strategy,
        )


def heal_settings(**values: Any) -> HealSettings:
    """`HealSettings` from keywords.

    Raises:
        BadInput: names the unknown setting, or the value and its bounds.
    """
    try:
        return HealSettings(**values)
    except ValidationError as error:
        raise explain_validation(error, "settings", HealSettings.model_fields) from error
