"""Where the hyperparameters of each training method are looked for. Needs no torch."""

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
        """As Optuna has it."""
        import optuna

        if isinstance(self.low, int) and isinstance(self.high, int):
            return optuna.distributions.IntDistribution(self.low, self.high, log=self.log)
        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """Both bounds."""
        return self.low, self.high

    def holds(self, value: Value) -> bool:
        """Whether ``value`` lies in it."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class Choice(BaseModel):
    """One of some values, which have no order.

    Attributes:
        choices: the values, at least one, none twice.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    choices: tuple[Value, ...] = Field(min_length=1)

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """As Optuna has it."""
        import optuna

        return optuna.distributions.CategoricalDistribution(self.choices)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """All of them."""
        return self.choices

    def holds(self, value: Value) -> bool:
        """Whether ``value`` is one of them."""
        return value in self.choices


Dimension = Range | Choice
Space = dict[str, Dimension]


def _log(low: float, high: float) -> Range:
    return Range(low=low, high=high, log=True)


_ASCENT: Space = {"learning_rate": _log(1e-5, 1e-3), "steps": Range(low=20, high=300, log=True)}

_DECAY = _log(1e-5, 1e-2)

SPACES: Mapping[str, Space] = {
    "cf": {"learning_rate": _log(1e-3, 0.1), "weight_decay": _DECAY},
    "ft": {
        "learning_rate": _log(1e-3, 1.0),
        "epochs": Range(low=2, high=30, log=True),
        "batch_size": Choice(choices=(64, 128, 256)),
        "weight_decay": _DECAY,
    },
    "fp": {
        "accuracy_drop": Range(low=0.02, high=0.4),
        "learning_rate": _log(1e-3, 0.2),
        "epochs": Range(low=2, high=20, log=True),
    },
    "nad": {
        "beta": _log(100.0, 5000.0),
        "learning_rate": _log(5e-3, 0.2),
        "teacher_epochs": Range(low=3, high=20),
        "epochs": Range(low=5, high=20),
        "power": Choice(choices=(1.0, 2.0, 4.0)),
    },
    "nc": {
        "threshold": Range(low=1.0, high=3.0),
        "patched": Range(low=0.05, high=0.5),
        "learning_rate": _log(1e-3, 0.1),
        "epochs": Range(low=1, high=5),
    },
    "ibau": {
        "learning_rate": _log(3e-4, 5e-3),
        "patched": _log(0.02, 0.5),
        "largest": _log(1.0, 20.0),
        "bound": _log(2.0, 20.0),
        "perturbations": Range(low=1, high=8),
        "rounds": Range(low=1, high=3),
        "distillation": Range(low=0.0, high=0.6),
    },
    "ga": _ASCENT,
    "npo": {**_ASCENT, "beta": _log(0.1, 5.0)},
    "rga": {**_ASCENT, "c": _log(0.1, 3.0), "mu": _log(1e-4, 0.1)},
}
"""Method -> where its hyperparameters are looked for; its default lies inside."""


def distributions(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """A space as Optuna has it."""
    return {name: dimension.distribution() for name, dimension in space.items()}
