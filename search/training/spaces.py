"""What the hyperparameters of a method that trains may be, and where they are looked for. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

if TYPE_CHECKING:
    import optuna

Value = bool | int | float | str | None
Parameters = dict[str, JsonValue]
"""Hyperparameter -> its value, as JSON has it."""


class Range(BaseModel):
    """Numbers from ``low`` to ``high``, both included; whole numbers if both are whole.

    Attributes:
        low, high: the bounds, finite, in this order.
        log: look on a logarithmic scale; the bounds are above 0 then.

    Example:
        >>> from theriac.search.training import Range
        >>> Range(low=1, high=8).holds(3), Range(low=1e-4, high=1e-2, log=True).holds(0.1)
        (True, False)
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("give low < high, both above 0 with log")
        return self

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Return the range as Optuna has it."""
        import optuna

        if isinstance(self.low, int) and isinstance(self.high, int):
            return optuna.distributions.IntDistribution(self.low, self.high, log=self.log)
        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Return both bounds."""
        return self.low, self.high

    def holds(self, value: Value) -> bool:
        """Tell whether ``value`` lies in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class Choice(BaseModel):
    """One of some values, which have no order.

    Attributes:
        choices: the values, at least one, none twice.

    Example:
        >>> from theriac.search.training import Choice
        >>> Choice(choices=("sgd", "adam")).holds("adam")
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: tuple[Value, ...] = Field(min_length=1)

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Return the choice as Optuna has it."""
        import optuna

        return optuna.distributions.CategoricalDistribution(self.choices)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Return all choices."""
        return self.choices

    def holds(self, value: Value) -> bool:
        """Tell whether ``value`` is one of the choices."""
        return value in self.choices


Dimension = Range | Choice
Space = dict[str, Dimension]


def log_range(low: float, high: float) -> Range:
    """Return a range that is looked through on a logarithmic scale."""
    return Range(low=low, high=high, log=True)


def distributions(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return a space as Optuna has it."""
    return {name: dimension.distribution() for name, dimension in space.items()}
