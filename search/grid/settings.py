"""What can be chosen about searches over pairs of alpha and lambda."""

from __future__ import annotations

from pydantic import Field, field_validator

from ..own_settings import HeldOutFields
from .pairs import ALPHAS, RELATIVE_LAMBDAS, GoelGrid, check_range, check_sizes
from .sampled import TPESearch


class GridFields(HeldOutFields):
    """The settings of a grid.

    Attributes:
        alphas: (grid) selection thresholds, finite and above 0, none twice.
        relative_lambdas: (grid) lambda in multiples of alpha, likewise; each is tried with every alpha.
    """

    alphas: tuple[float, ...] = ALPHAS
    relative_lambdas: tuple[float, ...] = RELATIVE_LAMBDAS

    @field_validator("alphas", "relative_lambdas")
    @classmethod
    def _sizes(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return check_sizes(values)

    def evaluated(self) -> int:
        """Count the pairs."""
        return len(self.grid().pairs())

    def grid(self) -> GoelGrid:
        """Make the grid that these settings ask for."""
        return GoelGrid(alphas=self.alphas, relative_lambdas=self.relative_lambdas)


class TPEFields(HeldOutFields):
    """The settings of a search by sampling.

    Attributes:
        samples: (tpe) how many pairs.
        alpha_range: (tpe) least and greatest alpha, above 0.
        relative_lambda_range: (tpe) least and greatest lambda in multiples of alpha, above 0.
    """

    samples: int = Field(default=50, ge=1, le=2**31)
    alpha_range: tuple[float, float] = (0.1, 1e6)
    relative_lambda_range: tuple[float, float] = (0.1, 10.0)

    @field_validator("alpha_range", "relative_lambda_range")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        return check_range(value)

    def evaluated(self) -> int:
        """Count the samples."""
        return self.samples

    def tpe(self) -> TPESearch:
        """Make the sampling that these settings ask for."""
        return TPESearch(
            samples=self.samples,
            alpha_range=self.alpha_range,
            relative_lambda_range=self.relative_lambda_range,
        )
