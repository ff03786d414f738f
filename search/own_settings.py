"""What the settings of every search have in common, and the settings that two searches share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SearchFields(BaseModel):
    """The settings of one search, as fields that `HealSettings` inherits."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def evaluated(self) -> int | None:
        """How many settings the search evaluates; None where it cannot know."""
        return None


class ConstantFields(SearchFields):
    """Lambda, where a search does not look for it.

    Attributes:
        dampening_constant: (ptn, guarded) lambda, above 0; smaller dampens selected weights more.
    """

    dampening_constant: float = Field(default=1.0, gt=0)


class HeldOutFields(SearchFields):
    """The samples of retain that pairs of alpha and lambda are judged on.

    Attributes:
        held_out: (grid, tpe) the best pair has the highest sum of accuracy lost on the found poison and
            gained on this many samples of retain, drawn at random (always the same ones; all, if there are
            fewer), labels as given. They may hold undiscovered poison, the model was trained on them, and
            they count in the importances of retain as well. They are kept in memory.
    """

    held_out: int = Field(default=1000, ge=1)
