"""The settings of `theriac.heal` as keywords, for type checkers and editors.

`HealSettings` and `TuneSettings` have the last word: a test compares names and types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

from ..unlearning.kinds import Granularity, Precision


class HealKeywords(TypedDict, total=False):
    """Each is explained in `HealSettings`, or in `TuneSettings` for methods that train."""

    search: str
    granularity: Granularity
    collapse_drop: float
    collapse_share: float
    compared: int | Literal["all"]
    precision: Precision
    batch_size: int
    dampening_constant: float
    rho: float | Literal["auto"]
    b_start: float
    s_step: float
    max_steps: int
    strategy: Literal["plain", "coarse_fine"]
    piece: int | Literal["whole"]
    held_out: int
    alphas: tuple[float, ...]
    relative_lambdas: tuple[float, ...]
    samples: int
    alpha_range: tuple[float, float]
    relative_lambda_range: tuple[float, float]
    harm_weight: float
    most_harm: float
    probe_target: int
    probe_other: int
    probe_precision: Literal["same", "float32", "bfloat16", "float16"]
    parameters: Mapping[str, Any]
    together: int
    space: Mapping[str, Any]
    objective: Literal["deployable", "oracle"]
    pareto: bool
    sampler_seed: int
