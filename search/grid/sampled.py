"""Pairs of alpha and lambda sampled by Optuna's TPE: what a grid looks for, between the grid's points (ours).

The judgement is the grid's: accuracy lost on S_f plus accuracy gained on held-out data.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ...rows import Row
from ..sampler import Sampler
from .pairs import AlphaLambda, check_range

ALPHA, RELATIVE = "alpha", "relative_lambda"


class TPESearch(BaseModel):
    """What is sampled; the ranges are those of Goel's grid, on a logarithmic scale.

    Attributes:
        samples: how many pairs, at least 1.
        alpha_range: least and greatest alpha, above 0.
        relative_lambda_range: least and greatest lambda, as a multiple of alpha, above 0.
        seed: of the sampler.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(default=50, ge=1, le=2**31)
    alpha_range: tuple[float, float] = (0.1, 1e6)
    relative_lambda_range: tuple[float, float] = (0.1, 10.0)
    seed: int = Field(default=0, ge=0, lt=2**63)

    @field_validator("alpha_range", "relative_lambda_range")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        return check_range(value)

    def sampler(self, history: Sequence[Row]) -> PairSampler:
        """Return the sampler after the pairs in ``history`` (rows with a ``score``) were drawn and judged."""
        sampler = PairSampler(self)
        for row in history:
            sampler.ask()
            sampler.tell(row["score"])
        return sampler


class PairSampler:
    """Asks for pairs one at a time, and is told what each is worth.

    Args:
        search: the ranges and the seed.
    """

    def __init__(self, search: TPESearch) -> None:
        import optuna  # takes as long to import as all of search/, and few need it

        scale = optuna.distributions.FloatDistribution
        space = {
            ALPHA: scale(*search.alpha_range, log=True),
            RELATIVE: scale(*search.relative_lambda_range, log=True),
        }
        self._sampler = Sampler(space, seed=search.seed)

    def ask(self) -> AlphaLambda:
        """Draw the next (alpha, lambda)."""
        drawn = self._sampler.ask()
        return drawn[ALPHA], drawn[ALPHA] * drawn[RELATIVE]

    def tell(self, score: float) -> None:
        """Tell the sampler what the pair asked for is worth.

        Raises:
            ValueError: none was asked for.
        """
        self._sampler.tell([score])
