"""What a plan expects of a search: how many settings, what each reads, and which rows it would give.

The defaults are those of a search whose settings can be counted beforehand and are judged on S_f alone.
Others say in their own package what differs. Needs no torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from ..rows import Row
from .interface import Start
from .own_settings import HeldOutFields, SearchFields

F = TypeVar("F", bound=SearchFields)
H = TypeVar("H", bound=HeldOutFields)
S = TypeVar("S", bound=Start)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a search is.

    Attributes:
        forget: |S_f|.
        train: |S_tr|, found poison included.
        measured: mean settings of such a search in earlier runs; None: there were none.
    """

    forget: int
    train: int
    measured: float | None = None


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What some work of a search looks at, in samples.

    Attributes:
        forget: of S_f, with the weights of a setting.
        others: passed forward besides.
        read: whose importances are taken.
    """

    forget: int = 0
    others: int = 0
    read: int = 0


class Expected(ABC, Generic[F, S]):
    """What a plan expects of a search; subclasses say `count`, `start`, and what differs.

    Attributes:
        assumed: what is taken for granted where no earlier run has measured it; a plan says so.
        counted: how many settings there are is known beforehand.
    """

    assumed: ClassVar[str]
    counted: ClassVar[bool] = True

    @abstractmethod
    def count(self, settings: F, measured: float | None) -> int:
        """Return how many settings the search evaluates to its end, at least 1.

        Args:
            settings: of the healing.
            measured: see `Sizes`.
        """

    @abstractmethod
    def start(self, settings: F, sizes: Sizes) -> S:
        """Return what the search begins with, or one that stands in for it in a simulation."""

    def rows(
        self, start: S, settings: F, sizes: Sizes, history: Sequence[Row], skip: int, count: int
    ) -> list[Row]:
        """Return made-up rows of the next ``count`` settings; fewer where the search ends.

        Args:
            start: as `start` gives it.
            settings: of the healing.
            sizes: see `Sizes`.
            history: rows so far.
            skip: settings after these that others evaluate.
            count: at most so many.
        """
        left = self.count(settings, sizes.measured) - len(history) - skip
        return [{} for _ in range(max(0, min(count, left)))]

    def setting(self, settings: F, sizes: Sizes) -> Looked:
        """Return what one setting looks at: S_f, and again what the beginning did."""
        return Looked(forget=sizes.forget, others=self.beginning(settings, sizes).others)

    def beginning(self, settings: F, sizes: Sizes) -> Looked:
        """Return what every job of the search looks at before its first setting: nothing, by default.

        `HealSettings` has the fields of all searches, so a search that holds samples out says so itself.
        """
        return Looked()

    def problem(self, settings: F, sizes: Sizes) -> Looked:
        """Return what it takes to make the search's problem, besides the importances that all need."""
        return Looked()


class HeldOut(Expected[H, S]):
    """What a plan expects of a search that judges its settings on a part of retain, too."""

    def beginning(self, settings: H, sizes: Sizes) -> Looked:
        """Return what a beginning looks at, see `Expected.beginning`: the part that is held out."""
        return Looked(others=min(settings.held_out, sizes.train))
