"""Healing by a method that trains: its hyperparameters searched on S_f and retain alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pydantic import ValidationError
from torch import nn

from ..errors import BadInput, explain_validation
from ..unlearning.unlearner import Known, Samples
from .harm import Harm
from .inputs import Batches
from .measuring import Stopwatch, peak_memory
from .operation import Progress
from .tune_settings import TuneSettings
from .tuning import Tuned, Tuning

KEPT_STATUSES = ("stopped", "done")
"""With these, the model is the healed one; with all others it is the victim."""


REPORTED = tuple(field.name for field in fields(Harm))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of it.

    Attributes:
        found: status and rows.
        model: the best candidate, or the victim where the status is none of `KEPT_STATUSES`.
        metrics: counts, accuracies, seconds by phase, peak memory in bytes.
    """

    found: Tuned
    model: nn.Module
    metrics: dict[str, Any]


def tune_settings(**values: Any) -> TuneSettings:
    """`TuneSettings` for a model whose truth nobody knows.

    Raises:
        BadInput: names the unknown setting, or the value and its bounds; an objective that needs the truth.
    """
    try:
        settings = TuneSettings(**values)
    except ValidationError as error:
        raise explain_validation(error, "settings", TuneSettings.model_fields) from error
    if settings.uses_oracle:
        raise BadInput(
            "objective 'oracle' needs held-out truth, which a sweep has and heal has not; leave it out"
        )
    return settings


def heal_by_training(
    victim: nn.Module,
    sets: Mapping[str, Samples | None],
    batches: tuple[Batches, Batches],
    settings: TuneSettings,
    *,
    base: nn.Module | None,
    seed: int,
    progress: Progress,
) -> Trained:
    """Search the hyperparameters of a method that trains, and take the best candidate.

    Args:
        victim: float32 or better, in eval mode; never changed.
        sets: "forget", "retain" and, where there is one, "clean".
        batches: S_f and retain once more, as candidates are judged on.
        settings: method and search.
        base: see `Known`.
        seed: of the method.
        progress: called with ("search", settings done, settings).

    Raises:
        BadInput: the method needs clean images and got none.
    """
    known = Known(forget=sets["forget"], retain=sets["retain"], clean=sets.get("clean"), base=base)
    if settings.needs_clean:
        known.need("clean", f"the method {settings.method}")
    watch = Stopwatch(next(victim.parameters()).device)
    tuning = Tuning(victim, known, *batches, settings, seed=seed)
    total = settings.setting_count
    with watch.phase("search"):
        rows = tuning.carry_on([], progress=lambda done: progress("search", done, total))
    with watch.phase("report"):
        found = tuning.conclude(rows)
        kept = found.chosen is not None and found.status in KEPT_STATUSES
        model = tuning.model(found.chosen) if kept and found.chosen else victim
    counts = {"forget_count": len(batches[0]), "retain_count": len(batches[1])}
    return Trained(found=found, model=model, metrics={**counts, **_metrics(found), **_costs(watch, victim)})


def _metrics(found: Tuned) -> dict[str, Any]:
    chosen, before = found.chosen, found.examined.forget_accuracy
    harm = {} if chosen is None else {name: chosen[name] for name in REPORTED}
    return {
        "steps": len(found.rows),
        "forget_accuracy_before": before,
        "forget_accuracy": before if chosen is None else chosen["forget_accuracy"],
        **harm,
        "score": None if chosen is None else chosen["score"],
    }


def _costs(watch: Stopwatch, victim: nn.Module) -> dict[str, Any]:
    return {"seconds": watch.seconds, "peak_memory": peak_memory(next(victim.parameters()).device)}
