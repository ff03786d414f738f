"""What a plan expects of a guarded search."""

from __future__ import annotations

from ..expected import Expected, Looked, Sizes
from ..grid import TPEStart
from .settings import MOST_FOUND, MOST_MEASURED, GuardedFields

USUAL_STEPS = 15
"""Steps that it takes; those of the victims in `tests/benchmarks/results` took 11 to 36."""
LOOKS = 6
"""Forward passes over found poison and probe that it needs to suspect and look again; 3 to 6 follow from
`guarded-cost.md`."""


class ExpectedGuarded(Expected[GuardedFields, TPEStart]):
    """Steps of which each needs all before it, as samples of a sampler do; these stand in for them."""

    assumed = f"a guarded search takes {USUAL_STEPS} steps"
    counted = False

    def count(self, settings: GuardedFields, measured: float | None) -> int:
        """Return the expected number of steps; see `Expected.count`."""
        return max(1, round(measured or USUAL_STEPS))

    def start(self, settings: GuardedFields, sizes: Sizes) -> TPEStart:
        """Return a start to plan with; see `Expected.start`."""
        return TPEStart(count=self.count(settings, sizes.measured))

    def setting(self, settings: GuardedFields, sizes: Sizes) -> Looked:
        """Return what a setting looks at; see `Expected.setting`."""
        watched = min(2 * settings.probe_other, sizes.train)
        return Looked(forget=min(sizes.forget, MOST_MEASURED), others=watched)

    def problem(self, settings: GuardedFields, sizes: Sizes) -> Looked:
        """Return what a problem looks at, see `Expected.problem`: a probe, and its importances."""
        probe = min(MOST_FOUND, sizes.forget) + min(settings.probe_target, sizes.train)
        return Looked(read=probe, others=LOOKS * probe)
