"""Searches over pairs of alpha and lambda as the rest of theriac knows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..entry import Material, Opening, SearchEntry
from .expected import ExpectedGrid, ExpectedTPE
from .settings import GridFields, TPEFields
from .start import GridStart, TPEStart

if TYPE_CHECKING:
    from ..dampening_problem import DampeningProblem
    from ..interface import Searching
    from .scorer import PairScorer


def _problem(material: Material[Any]) -> DampeningProblem:
    from ..dampening_problem import DampeningProblem

    return DampeningProblem(
        material.victim, material.forget, *material.pair, forget_count=len(material.forget)
    )


def _scorer(opening: Opening[GridFields] | Opening[TPEFields]) -> tuple[PairScorer, int]:
    """Make what judges pairs, and count the samples of retain that it judges them on."""
    from ..given import random_part
    from .scorer import PairScorer

    held_out = random_part(opening.retain, opening.settings.held_out)
    return PairScorer(opening.problem, list(held_out)), len(held_out)  # read for every pair: kept in memory


def _open_grid(opening: Opening[GridFields]) -> Searching:
    from .driver import GridSearching

    return GridSearching(opening.settings.grid(), *_scorer(opening))


def _open_tpe(opening: Opening[TPEFields]) -> Searching:
    from .driver import TPESearching

    return TPESearching(opening.settings.tpe(), *_scorer(opening))


_WORDS: dict[str, Any] = {
    "no_stop": "no pair scores better than the model as it is",
    "chosen": "scores best",
    "gentler": "--search ptn",
    "instead": "ptn",
}
GRID = SearchEntry(
    **_WORDS,
    name="grid",
    title="Grid",
    about="pairs of alpha and lambda (Goel et al.: 50), judged on found poison and a part of retain",
    fields=GridFields,
    start=GridStart,
    expected=ExpectedGrid(),
    problem=_problem,
    open=_open_grid,
)
TPE = SearchEntry(
    **_WORDS,
    name="tpe",
    title="TPE",
    about="such pairs, or hyperparameters of a method that trains, sampled by Optuna's TPE",
    fields=TPEFields,
    start=TPEStart,
    expected=ExpectedTPE(),
    problem=_problem,
    open=_open_tpe,
    in_order=True,
)
