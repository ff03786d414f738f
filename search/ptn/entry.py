"""PTN search as the rest of theriac knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..entry import Material, Opening, SearchEntry
from .expected import ExpectedPTN
from .settings import PTNFields
from .start import PTNStart

if TYPE_CHECKING:
    from ..dampening_problem import DampeningProblem
    from ..interface import Searching


def _problem(material: Material[PTNFields]) -> DampeningProblem:
    from ..dampening_problem import DampeningProblem

    piece, constant = material.settings.piece, material.settings.dampening_constant
    return DampeningProblem(
        material.victim,
        material.forget,
        *material.pair,
        dampening_constant=constant,
        piece=None if piece == "whole" else piece,
        forget_count=len(material.forget),
    )


def _open(opening: Opening[PTNFields]) -> Searching:
    from .driver import PTNSearching

    start = PTNStart(
        search=opening.settings.ptn(opening.rho),
        forget_count=opening.forget_count,
        train_count=opening.forget_count + len(opening.retain),
        forget_accuracy=opening.forget_accuracy,
    )
    return PTNSearching(start, opening.problem, opening.settings.dampening_constant)


PTN = SearchEntry(
    name="ptn",
    title="PTN",
    about="more aggressive step by step until the found poison is forgotten; the default",
    no_stop="no setting made the model forget",
    chosen="forgets",
    gentler="a higher --rho (or auto)",
    instead="guarded",
    fields=PTNFields,
    start=PTNStart,
    expected=ExpectedPTN(),
    problem=_problem,
    open=_open,
    walks=True,
    curve="tradeoff",
)
