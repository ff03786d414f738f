"""Healing by a method that trains: its hyperparameters searched on S_f and retain alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from ...datasets.samples import Samples
from ...errors import BadInput, explain_validation
from ...unlearning.methods import Known, check_base
from ..dampening_run import Progress, compared_part
from ..given import Batches, VictimCheck
from ..harm import Harm
from ..healed import KEPT_STATUSES, healed_rho, judged
from ..stopwatch import Stopwatch, peak_memory
from .settings import TPE_ONLY, TuneSettings
from .tuning import Examined, Tuned, Tuning

REPORTED = tuple(field.name for field in fields(Harm))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a healing by a method that trains.

    Attributes:
        status: of the search, or "not_healed"; see `judged`.
        found: rows.
        model: the best candidate, or the victim where the status is none of `KEPT_STATUSES`.
        metrics: counts, accuracies, seconds by phase, peak memory in bytes; "unchanged" is whether the best
            candidate is the victim itself, which a method may give back.
        warnings: what is in doubt about model and data.
    """

    status: str
    found: Tuned
    model: nn.Module
    metrics: dict[str, Any]
    warnings: tuple[str, ...]


def tune_settings(**values: Any) -> TuneSettings:
    """Return `TuneSettings` for a model whose truth nobody knows.

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
    unused = [name for name in TPE_ONLY if name in settings.model_fields_set]
    if unused and not settings.searched and (unused, settings.samples) != (["samples"], 1):
        raise BadInput(
            f"{unused[0]}: parameters fix every hyperparameter of {settings.method} that is searched, so "
            f"that one setting is left; leave it out, or leave some parameters to the search"
        )
    return settings


def heal_by_training(
    victim: nn.Module,
    sets: Mapping[str, Samples],
    batches: Mapping[str, Batches],
    settings: TuneSettings,
    *,
    base: nn.Module | None,
    seed: int,
    progress: Progress,
) -> Trained:
    """Search for the hyperparameters of a method that trains, and take the best candidate.

    Args:
        victim: float32 or better, in eval mode; never changed.
        sets: "forget", "retain" and, where there is one, "clean".
        batches: the same once more, as models are judged on them.
        settings: method and search.
        base: see `Known`.
        seed: of the method.
        progress: called with ("search", settings done, settings).

    Raises:
        BadInput: the method needs clean images and got none, or model and data contradict each other.
    """
    known = Known(forget=sets["forget"], retain=sets["retain"], clean=sets.get("clean"), base=base)
    if settings.needs_clean:
        known.need("clean", f"the method {settings.method}")
    if base is not None:
        check_base(victim, base)
    watch = Stopwatch(next(victim.parameters()).device)
    check = _check(victim, batches, settings, base)
    forget, retain = batches["forget"], batches["retain"]
    tuning = Tuning(victim, known, forget, retain, settings, seed=seed, check=check)
    with watch.phase("check"):
        examined = tuning.examined
    total = settings.setting_count
    with watch.phase("search"):
        rows = tuning.carry_on([], progress=lambda done: progress("search", done, total))
    with watch.phase("report"):
        threshold = _threshold(settings, examined, len(forget), check.classes_seen)
        found = tuning.conclude(rows, enough=threshold)
        candidate = tuning.model(found.chosen) if found.chosen and found.status in KEPT_STATUSES else None
    forgot = _metrics(found)
    status = judged(found.status, forgot["forget_accuracy"], threshold)
    metrics = {
        "forget_count": len(forget),
        "retain_count": len(retain),
        **forgot,
        "forget_threshold": threshold,
        "unchanged": candidate is not None and _same(candidate, victim),
        "classes_seen": check.classes_seen,
        **_costs(watch, victim),
    }
    model = candidate if candidate is not None and status in KEPT_STATUSES else victim
    return Trained(status=status, found=found, model=model, metrics=metrics, warnings=check.warnings)


def _check(
    victim: nn.Module, batches: Mapping[str, Batches], settings: TuneSettings, base: nn.Module | None
) -> VictimCheck:
    """Return the check of all sets, of as many samples of each as are compared."""
    parts = {name: compared_part(samples, settings.compared) for name, samples in batches.items()}
    return VictimCheck(victim, settings.method, parts["retain"], clean=parts.get("clean"), base=base)


def _threshold(settings: TuneSettings, examined: Examined, forget_count: int, seen: float) -> float:
    asked = settings.rho if "rho" in settings.model_fields_set else None
    return examined.forget_accuracy * healed_rho(asked, examined.expected_rate * seen, forget_count)


def _same(one: nn.Module, other: nn.Module) -> bool:
    """Tell whether two models of one kind have the same weights and statistics."""
    return all(
        torch.equal(mine, its)
        for mine, its in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
        if isinstance(mine, Tensor) and isinstance(its, Tensor)
    )


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
