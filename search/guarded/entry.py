"""The guarded search as the rest of theriac knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..entry import Material, Opening, SearchEntry
from .expected import ExpectedGuarded
from .settings import GuardedFields
from .start import GuardedStart

if TYPE_CHECKING:
    from ..interface import Searching
    from .problem import GuardedProblem


def _problem(material: Material[GuardedFields]) -> GuardedProblem:
    from .problem import guarded_problem

    samples, predicted = material.compared()
    return guarded_problem(
        material.victim, material.forget, samples, predicted, material.pair, material.settings
    )


def _open(opening: Opening[GuardedFields]) -> Searching:
    from .driver import GuardedSearching
    from .problem import GuardedProblem

    problem, settings = opening.problem, opening.settings
    if not isinstance(problem, GuardedProblem):
        raise TypeError(f"a guarded search walks along a GuardedProblem, not a {type(problem).__name__}")
    start = GuardedStart(search=settings.guarded(), probes=problem.probes)
    return GuardedSearching(start, problem, settings.dampening_constant)


GUARDED = SearchEntry(
    name="guarded",
    title="Guarded",
    about="finds hidden poison in retain, and dampens while nothing else there changes (ours)",
    no_stop="nothing heals half of what is suspected and harms no more than --most-harm",
    chosen="scores best",
    gentler="a higher --harm-weight",
    instead="ptn",
    not_apart="dampening moves the found samples no more than others of their class",
    fields=GuardedFields,
    start=GuardedStart,
    expected=ExpectedGuarded(),
    problem=_problem,
    open=_open,
    depends_on=("probe_target", "probe_other", "precision_of_probes", "compared"),
    in_order=True,
    curve="flips",
)
