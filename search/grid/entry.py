"""Searches over pairs of alpha and lambda as the rest of theriac knows them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..entry import Opening, SearchEntry, plain_problem
from .start import GridStart, TPEStart

if TYPE_CHECKING:
    from ..interface import Searching
    from .scorer import PairScorer


def _scorer(opening: Opening) -> tuple[PairScorer, int]:
    """Make what judges pairs, and count the samples of retain that it judges them on."""
    from ..given import random_part
    from .scorer import PairScorer

    held_out = random_part(opening.retain, opening.settings.held_out)
    return PairScorer(opening.problem, list(held_out)), len(held_out)  # read for every pair: kept in memory


def _open_grid(opening: Opening) -> Searching:
    from .driver import GridSearching

    return GridSearching(opening.settings.grid(), *_scorer(opening))


def _open_tpe(opening: Opening) -> Searching:
    from .driver import TPESearching

    return TPESearching(opening.settings.tpe(), *_scorer(opening))


GRID = SearchEntry(
    name="grid",
    title="Grid",
    about="pairs of alpha and lambda (Goel et al.: 50), judged on found poison and a part of retain",
    no_stop="no pair scores better than the model as it is",
    chosen="scores best",
    gentler="--search ptn",
    instead="ptn",
    start=GridStart,
    problem=plain_problem,
    open=_open_grid,
)
TPE = replace(
    GRID,
    name="tpe",
    title="TPE",
    about="such pairs, or hyperparameters of a method that trains, sampled by Optuna's TPE",
    start=TPEStart,
    open=_open_tpe,
    in_order=True,
)
