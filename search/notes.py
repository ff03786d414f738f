"""What the verdict on a healing cannot see: said beside it, since nothing in the data contradicts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .healed import KEPT_STATUSES

FEW = 3
"""So few found images show little of what a trigger does."""
SHRUNK = 1 / 3
"""A class of which less is left has lost more than hidden poison usually is."""


def notes_on(status: str, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    """Name what to keep in mind of a model that counts as healed.

    Args:
        status: of the healing; nothing is said of a model that is the victim's.
        metrics: see `Healing`.
    """
    if status not in KEPT_STATUSES:
        return ()
    found, seen, kept = metrics["forget_count"], metrics["classes_seen"], metrics["target_kept"]
    notes = []
    if found <= FEW:
        images = "1 found image shows" if found == 1 else f"{found} found images show"
        notes.append(f"{images} little of what the trigger does to others: look for more of the poison")
    if kept < SHRUNK:
        notes.append(
            f"the model reads {kept:.0%} of the retain images as the poison's label that it read so before: "
            f"the others are hidden poison, or the class itself is being forgotten; test it on clean images"
        )
    if seen < 1:
        notes.append(
            f"retain holds samples of {seen:.0%} of the model's classes: what became of the others was not "
            f"looked at; give samples of all classes"
        )
    return tuple(notes)
