"""All methods by name: baselines, those that train, and those that dampen, in the order of tables.

Those that train have their entries in `theriac.search.training.registry`, those that dampen in
`theriac.unlearning.kinds`: a new one of either is here without another line.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..unlearning.kinds import KINDS
from .training import TRAINED_METHODS


@dataclass(frozen=True, kw_only=True)
class MethodEntry:
    """What a reader is told about a method.

    Attributes:
        name: in settings, rows and on the command line.
        title: in tables and figures.
        about: one line for ``theriac list methods``.
        searched: it has settings that a search may look for.
        needs_clean: it cannot do without images known to be clean.
    """

    name: str
    title: str
    about: str
    searched: bool = True
    needs_clean: bool = False


BASELINES: dict[str, MethodEntry] = {
    "none": MethodEntry(name="none", title="None", about="the victim as it is", searched=False),
    "eu": MethodEntry(
        name="eu", title="EU", about="exact unlearning: retrain from scratch on retain", searched=False
    ),
}
"""What methods are compared with."""

METHOD_ENTRIES: dict[str, MethodEntry] = {
    **BASELINES,
    **{
        entry.name: MethodEntry(
            name=entry.name, title=entry.title, about=entry.about, needs_clean=entry.needs_clean
        )
        for entry in TRAINED_METHODS.values()
    },
    **{
        kind.method: MethodEntry(name=kind.method, title=kind.title, about=kind.about)
        for kind in KINDS.values()
    },
}
