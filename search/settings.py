"""What can be chosen about a healing: method, granularity, the search and its bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from ..errors import explain_validation
from ..unlearning.kinds import Granularity, Kind, Precision
from .grid.pairs import ALPHAS, RELATIVE_LAMBDAS, GoelGrid, check_range, check_sizes
from .grid.sampled import TPESearch
from .guarded.machine import GuardedSearch
from .ptn.machine import PTNSearch, Strategy

Method = Literal["ssd", "lf", "xlf"]
METHODS: dict[str, Kind] = {"ssd": "fim", "lf": "lf", "xlf": "xlf"}

Search = Literal["ptn", "grid", "tpe", "guarded"]
PTN_ONLY = ("rho", "b_start", "s_step", "max_steps", "strategy", "piece", "dampening_constant")
GRID_ONLY = ("alphas", "relative_lambdas", "held_out")
TPE_ONLY = ("samples", "alpha_range", "relative_lambda_range", "held_out")
GUARDED_ONLY = (
    "harm_weight",
    "most_harm",
    "probe_target",
    "probe_other",
    "probe_precision",
    "dampening_constant",
)
SEARCHES: dict[str, tuple[str, ...]] = {
    "ptn": PTN_ONLY,
    "grid": GRID_ONLY,
    "tpe": TPE_ONLY,
    "guarded": GUARDED_ONLY,
}
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


class HealSettings(BaseModel):
    """Settings of a healing by dampening; every value is validated, unknown ones are refused.

    So are settings of the search that was not chosen, whatever their value; dumps leave them out.

    Attributes:
        method: which importances: "ssd" (fim), "lf" or "xlf".
        granularity: "sample" as the papers write, "batch" as the authors' programs compute.
        search: how alpha is found: "ptn" stops where the found poison is forgotten; "grid" tries pairs of
            alpha and lambda, as Goel et al. do, and takes the best; "tpe" samples such pairs, each from what
            those before were worth, and takes the best; "guarded" (ours) finds hidden poison in retain from
            the first of it, and dampens while that heals and other samples of retain do not suffer.
        rho: (ptn) stop at this share of the victim's forget accuracy, in [0, 1); "auto" derives it from how
            often the victim predicts the target class on retain, which tasks of few classes need.
        b_start: (ptn) the search starts at s = (|S_f| / |S_tr|) / b_start, above 0.
        s_step: (ptn) factor on s from step to step, above 1; smaller is finer and slower.
        max_steps: (ptn) steps of s_step after which a search that never crossed gives up.
        strategy: (ptn) "plain" evaluates every step; "coarse_fine" every eighth until one crosses, and then
            those in between, which is faster and gives the same where the forget accuracy only falls.
        piece: (ptn) look at S_f in pieces of this many samples, and no further than a step needs to know on
            which side of the threshold it is; 8 is fast. The stop is the same, but the forget accuracies of
            the other steps are not known then. "whole": each step in full.
        dampening_constant: (ptn, guarded) lambda, above 0; smaller dampens selected weights more.
        alphas: (grid) selection thresholds, finite and above 0, none twice.
        relative_lambdas: (grid) lambda in multiples of alpha, likewise; each is tried with every alpha.
        held_out: (grid, tpe) the best pair has the highest sum of accuracy lost on the found poison and
            gained on this many samples of retain, drawn at random (always the same ones; all, if there are
            fewer), labels as given. They may hold undiscovered poison, the model was trained on them, and
            they count in the importances of retain as well. They are kept in memory.
        samples: (tpe) how many pairs.
        alpha_range: (tpe) least and greatest alpha, above 0.
        relative_lambda_range: (tpe) least and greatest lambda in multiples of alpha, above 0.
        harm_weight: (guarded) what a point of accuracy lost on retain costs, in points of suspected samples
            healed, above 0; larger heals less and damages less.
        most_harm: (guarded) the largest loss of accuracy on retain, suspected samples apart, in (0, 1]; if
            nothing heals without more, the status is "no_stop".
        probe_target: (guarded) samples of retain labelled as S_f is that are searched for hidden poison.
        probe_other: (guarded) samples of the other classes, and of the unsuspected ones of these, at most, on
            which harm is measured. They are kept in memory.
        probe_precision: (guarded) of the passes that look for hidden poison and measure steps: "same" as that
            of the importances, or one of those. "bfloat16" is several times as fast where there are matrix
            units; predictions differ in few samples.
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
    search: Search = "ptn"
    rho: Annotated[float, Field(ge=0, lt=1)] | Literal["auto"] = 0.2
    b_start: float = Field(default=25.0, gt=0)
    s_step: float = Field(default=1.1, gt=1)
    max_steps: int = Field(default=500, ge=1)
    strategy: Strategy = "plain"
    piece: Annotated[int, Field(ge=1)] | Literal["whole"] = "whole"
    dampening_constant: float = Field(default=1.0, gt=0)
    alphas: tuple[float, ...] = ALPHAS
    relative_lambdas: tuple[float, ...] = RELATIVE_LAMBDAS
    held_out: int = Field(default=1000, ge=1)
    samples: int = Field(default=50, ge=1)
    alpha_range: tuple[float, float] = (0.1, 1e6)
    relative_lambda_range: tuple[float, float] = (0.1, 10.0)
    harm_weight: float = Field(default=12.0, gt=0)
    most_harm: float = Field(default=0.06, gt=0, le=1)
    probe_target: int = Field(default=600, ge=1)
    probe_other: int = Field(default=300, ge=1)
    probe_precision: Literal["same", Precision] = "same"
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

    @field_validator("alphas", "relative_lambdas")
    @classmethod
    def _sizes(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return check_sizes(values)

    @field_validator("alpha_range", "relative_lambda_range")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        return check_range(value)

    @model_serializer(mode="wrap")
    def _in_force(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if name not in self._unused()}

    def _unused(self) -> tuple[str, ...]:
        own = SEARCHES[self.search]
        return tuple(name for name in ALL_FOREIGN if name not in own)

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
        counts = {"grid": len(self.grid().pairs()), "tpe": self.samples}
        return counts.get(self.search)

    def ptn(self, rho: float) -> PTNSearch:
        """The PTN search these settings ask for, with rho as a number."""
        return PTNSearch(
            rho=rho,
            b_start=self.b_start,
            s_step=self.s_step,
            max_steps=self.max_steps,
            strategy=self.strategy,
        )

    def grid(self) -> GoelGrid:
        """The grid these settings ask for."""
        return GoelGrid(alphas=self.alphas, relative_lambdas=self.relative_lambdas)

    def guarded(self) -> GuardedSearch:
        """The guarded search these settings ask for."""
        return GuardedSearch(harm_weight=self.harm_weight, most_harm=self.most_harm)

    def tpe(self) -> TPESearch:
        """The sampling these settings ask for."""
        return TPESearch(
            samples=self.samples,
            alpha_range=self.alpha_range,
            relative_lambda_range=self.relative_lambda_range,
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
