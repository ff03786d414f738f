"""What a search tells the rest of theriac about itself; all are listed in `theriac.search.searches`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from .expected import Expected
from .interface import Start
from .own_settings import SearchFields

if TYPE_CHECKING:
    from ..unlearning.importance import Importance
    from ..unlearning.inference import Predicted
    from .dampening_problem import DampeningProblem
    from .given import Batches
    from .interface import Searching


F = TypeVar("F", bound=SearchFields)


@dataclass(frozen=True, kw_only=True)
class Material(Generic[F]):
    """What a dampening problem is made of.

    Attributes:
        victim: the model, never changed.
        forget: S_f.
        pair: importances of S_f and of retain.
        settings: of the healing.
        compared: gives samples of retain, and the victim's predictions of them with their labels.
    """

    victim: Any
    forget: Batches
    pair: tuple[Importance, Importance]
    settings: F
    compared: Callable[[], tuple[Batches, Predicted]]


@dataclass(frozen=True, kw_only=True)
class Opening(Generic[F]):
    """What a search begins with.

    Attributes:
        settings: of the healing.
        problem: what is searched.
        retain: the rest of the training set.
        forget_count: |S_f|.
        forget_accuracy: Acc_forget(victim).
        rho: that of the settings, as a number: it may follow from the data.
    """

    settings: F
    problem: DampeningProblem
    retain: Batches
    forget_count: int
    forget_accuracy: float
    rho: float


@dataclass(frozen=True, kw_only=True)
class SearchEntry(Generic[F]):
    """A search over how hard to dampen: its words, and how it begins.

    Attributes:
        name: in settings, rows and on the command line.
        title: in tables and figures.
        about: one line for ``theriac list searches``.
        no_stop: why it ended without a setting.
        chosen: what the setting that it takes does, as in "the setting that scores best".
        gentler: what to try where that setting wrecks the model.
        instead: name of the search to try where it does not heal.
        not_apart: what became of it where its metrics say that S_f is not ``apart`` from other samples.
        fields: the settings it has, a base of `HealSettings`.
        start: the class of its `Start`.
        expected: what a plan expects of it.
        problem: makes what it searches.
        open: begins it.
        depends_on: settings that its problem depends on, besides those that all problems do.
        in_order: each setting depends on all before it, so none can be evaluated ahead.
        walks: settings beyond the stop are worth measuring: what over-forgetting would cost.
        curve: the figure that shows its steps: "tradeoff" draws accuracies against s, "flips" what heals
            and what flips against the weights dampened; None: there is none.
    """

    name: str
    title: str
    about: str
    no_stop: str
    chosen: str
    gentler: str
    instead: str
    fields: type[F]
    start: type[Start]
    expected: Expected[F, Any]
    problem: Callable[[Material[F]], DampeningProblem]
    open: Callable[[Opening[F]], Searching]
    not_apart: str = ""
    depends_on: tuple[str, ...] = ()
    in_order: bool = False
    walks: bool = False
    curve: Literal["tradeoff", "flips"] | None = None
