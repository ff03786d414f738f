"""What can be chosen about a healing by a method that trains: its hyperparameters, or how they are found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from ..store import row_key
from .registry import TRAINED_METHODS, TrainedMethod
from .spaces import Dimension, Parameters, Space

TuneSearch = Literal["tpe", "fixed"]
TUNE_SEARCHES: dict[TuneSearch, str] = {
    "tpe": "hyperparameters sampled by Optuna's TPE",
    "fixed": "one run of a method that trains, with its defaults and what is set",
}
"""Searches of methods that train, the default first, and what they are."""
Objective = Literal["deployable", "oracle"]
TPE_ONLY = ("samples", "together", "space", "objective", "pareto", "sampler_seed")


class TuneSettings(BaseModel):
    """Settings of a healing by training; every value is validated, unknown ones are refused.

    Attributes:
        method: one of `TRAINED_METHODS`.
        search: "tpe" samples hyperparameters by Optuna's TPE, the method's defaults first, and takes the
            best; "fixed" runs the method once, with its defaults and ``parameters``.
        parameters: hyperparameters in place of the method's defaults; they are not searched.
        samples: (tpe) how many settings.
        together: (tpe) settings that may be under way at once: those of a round know nothing of each other.
            The answer depends on this number, not on how many workers there are.
        space: (tpe) where hyperparameters are looked for, in place of the method's own space: each a
            `Range` or a `Choice`. Those that are named are added or changed.
        objective: (tpe) "deployable" sees S_f and retain alone: the distance of Acc_forget from
            rho * Acc_forget(victim), plus the share of retain samples, not of a target class, on which the
            victim is contradicted. "oracle" sees held-out truth: clean accuracy plus healed_raw on test
            images that are set aside for it; its rows say ``uses_oracle``.
        pareto: (tpe) look for the Pareto front of the two parts of the objective rather than for the best
            sum; the winner is still the setting of the front with the best sum.
        sampler_seed: (tpe) of the sampler.
        rho: forget accuracy, as a share of the victim's, that a deployable objective aims at, in [0, 1). In
            `heal`, a model above it does not count as healed, whatever the search.
        collapse_drop: a setting has "collapsed" if accuracy on retain samples that are not of a target class
            falls by more than this share.
        collapse_share: it also has if one class gains more than this share of all retain predictions.
        compared: how many samples of retain, drawn at random, victim and candidate are compared on.
        batch_size: samples per forward pass, when a model is judged.

    Example:
        >>> from theriac.search.training import TuneSettings
        >>> settings = TuneSettings(method="rga", search="fixed", parameters={"steps": 50})
        >>> settings.setting_count, settings.needs_clean
        (1, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: TrainedMethod
    search: TuneSearch = "tpe"
    parameters: Parameters = {}
    samples: int = Field(default=20, ge=1, le=2**31)
    together: int = Field(default=1, ge=1, le=2**31)
    space: dict[str, Dimension] = {}
    objective: Objective = "deployable"
    pareto: bool = False
    sampler_seed: int = Field(default=0, ge=0, lt=2**32)
    rho: float = Field(default=0.2, ge=0, lt=1)
    collapse_drop: float = Field(default=0.1, gt=0, le=1)
    collapse_share: float = Field(default=0.25, gt=0, le=1)
    compared: Annotated[int, Field(ge=1, le=2**31)] | Literal["all"] = 5000
    batch_size: int = Field(default=512, ge=1, le=2**31)

    @field_validator(*TPE_ONLY, mode="before")
    @classmethod
    def _of_the_search(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("search") == "fixed":
            raise ValueError("the search 'fixed' does not use this; leave it out, or choose the search 'tpe'")
        return value

    @field_validator("parameters")
    @classmethod
    def _known_parameters(cls, values: Parameters, info: ValidationInfo) -> Parameters:
        if values and "method" in info.data:
            from .parameters import check_parameters  # torch takes seconds to import, few give parameters

            return check_parameters(info.data["method"], values)
        return values

    @field_validator("space")
    @classmethod
    def _known_dimensions(cls, space: Space, info: ValidationInfo) -> Space:
        if space and "method" in info.data:
            from .parameters import check_space

            return check_space(info.data["method"], space, info.data.get("parameters", {}))
        return space

    @model_serializer(mode="wrap")
    def _in_force(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unused = TPE_ONLY if self.search == "fixed" else ()
        return {name: value for name, value in handler(self).items() if name not in unused}

    def __hash__(self) -> int:
        """Return a hash of what is in force; the mappings have none of their own."""
        return hash(row_key(self.model_dump(mode="json")))

    @property
    def uses_oracle(self) -> bool:
        """Tell whether the search sees held-out truth."""
        return self.search == "tpe" and self.objective == "oracle"

    @property
    def needs_clean(self) -> bool:
        """Tell whether the method needs images known to be clean."""
        return TRAINED_METHODS[self.method].needs_clean

    @property
    def searched(self) -> Space:
        """Return what is looked for, and where."""
        if self.search == "fixed":
            return {}
        whole: Mapping[str, Dimension] = {**TRAINED_METHODS[self.method].space, **self.space}
        return {name: dimension for name, dimension in whole.items() if name not in self.parameters}

    @property
    def setting_count(self) -> int:
        """Return how many settings the search evaluates."""
        return self.samples if self.searched else 1
