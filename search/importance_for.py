"""Importances as the settings of a healing ask for them."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..unlearning.importance import Importance, estimate_importance
from .given import Batches
from .own_settings import SearchFields


def importance_for(
    settings: SearchFields,
    victim: nn.Module,
    samples: Batches,
    progress: Callable[[int], None] | None = None,
) -> Importance:
    """Estimate the importance of ``samples`` as the settings say; see `estimate_importance`."""
    return estimate_importance(
        victim,
        samples,
        kind=settings.kind,
        granularity=settings.granularity,
        precision=settings.precision,
        progress=progress,
    )
