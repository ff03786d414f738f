"""What all searches have in common: how they are followed, driven, and what they find. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from ..rows import Row

if TYPE_CHECKING:
    from torch import nn

    from .dampening_problem import DampeningProblem, Evaluation

Count = Callable[[int], None]
"""Is called with the number of settings done."""


class Start(Protocol):
    """A search before its first setting: all that another process must know to follow it.

    Attributes:
        sort: which class it is, where it travels as JSON.
    """

    @property
    def sort(self) -> str: ...

    def place(self, rows: Sequence[Row], skip: int = 0) -> Hashable | None:
        """Return where the search stands ``skip`` settings after ``rows``, if none changes its direction.

        Equal places go on equally. None: it is over by then, or depends on what is not known yet.

        Args:
            rows: of all settings evaluated so far, in order.
            skip: settings after these that others evaluate.
        """
        ...

    def needed(self, rows: Sequence[Row]) -> int:
        """Return how many of ``rows`` the search takes: all up to its end."""
        ...


class Finding(Protocol):
    """A finished search.

    Attributes:
        status: "stopped" or "no_stop".
        chosen: the setting it settled on, measured exactly; None for "no_stop".
        dampening_constant: lambda of that setting; None for "no_stop".
    """

    @property
    def status(self) -> str: ...

    @property
    def chosen(self) -> Evaluation | None: ...

    @property
    def dampening_constant(self) -> float | None: ...

    def rows(self) -> list[Row]:
        """Return one dict per evaluated setting, in order of evaluation: columns of the table ``steps``."""
        ...

    def columns(self) -> Row:
        """Return what the search settled on, after how many settings: columns of ``searches``."""
        ...

    def metrics(self) -> Row:
        """Return what only this search can report."""
        ...

    def settings(self) -> Row:
        """Return the settings that were derived from the data."""
        ...

    def beyond_the_stop(self, problem: DampeningProblem, count: int) -> Iterator[Row]:
        """Yield rows of up to ``count`` settings more aggressive than the stop; none where nothing is.

        Args:
            problem: the one that was searched.
            count: at most so many rows.
        """
        ...

    def at_the_stop(self, problem: DampeningProblem) -> nn.Module:
        """Return the problem's working copy with the weights of the stop; the victim's without one."""
        ...

    def model_of(self, problem: DampeningProblem, number: int, row: Row) -> nn.Module:
        """Return the model of row ``number`` of `rows`, or of a row beyond the stop.

        Args:
            problem: the one that was searched.
            number: from 0.
            row: the row itself, of `rows` or of `beyond_the_stop`.
        """
        ...


class Searching(Protocol):
    """A search on the problem it works on, in instalments.

    What was evaluated goes over the wire as rows of scalars. A search started anew from any prefix of its
    rows goes on as if it had never stopped, to the bit; so does one that skips steps which somebody else
    evaluates.

    Attributes:
        start: what another process must know to follow the search.
    """

    @property
    def start(self) -> Start: ...

    def carry_on(
        self, history: Sequence[Row], skip: int = 0, count: int | None = None, progress: Count | None = None
    ) -> list[Row]:
        """Evaluate further settings.

        Args:
            history: rows of all settings evaluated so far, in order.
            skip: settings after these that others evaluate; what they find is taken to change nothing.
            count: at most this many settings; None: all that are left.
            progress: called with the number of settings up to the one just done.

        Returns:
            Their rows; fewer than ``count`` where the search ends.
        """
        ...

    def finding(self, history: Sequence[Row]) -> Finding:
        """Return what the search found, from the rows of all its settings."""
        ...
