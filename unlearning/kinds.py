"""Names of the importances and their settings; importable without torch, so that ``--help`` is instant."""

from __future__ import annotations

from typing import Literal

Kind = Literal["fim", "lf", "xlf"]
Granularity = Literal["sample", "batch"]
Precision = Literal["float32", "bfloat16", "float16"]

KINDS: dict[str, float | None] = {"fim": None, "lf": 2.0, "xlf": 1.0}
"""Kind -> exponent of the norm of the logits; None: the cross-entropy takes the norm's place."""
GRANULARITIES = ("sample", "batch")
