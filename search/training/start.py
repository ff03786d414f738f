"""A search over the hyperparameters of a method that trains, as another process follows it."""

from __future__ import annotations

from ..grid import TPEStart
from .settings import TuneSettings


def start_of(settings: TuneSettings) -> TPEStart:
    """Return the start of a search over hyperparameters of a method that trains; it depends on no data."""
    together = settings.together if settings.search == "tpe" else 1
    return TPEStart(count=settings.setting_count, together=together)
