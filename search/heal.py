"""Heal one model: importances, a search, a report that does not flatter. The product in one call."""

from __future__ import annotations

import json
import numbers
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import torch
from torch import nn

from ..datasets.normalisation import Normalisation, normalisation
from ..datasets.views import View
from ..errors import BadInput, closest, shortened
from .dampening_run import Operation, Outcome, Progress, compared_part, metrics_of, operate, silent
from .given import (
    Batches,
    VictimCheck,
    as_batches,
    as_samples,
    check_alike,
    check_behaviour,
    check_classes,
    device_of,
    first_look,
    telling_of_dead_workers,
    with_weights,
    working_copy,
)
from .heal_keywords import HealKeywords
from .healed import KEPT_STATUSES, healed_rho, judged
from .healing import Healing
from .phase_progress import phase_progress
from .settings import METHODS, HealSettings, heal_settings
from .training import TRAINED_METHODS, heal_by_training, tune_settings
from .used_arguments import refuse_unused

if TYPE_CHECKING:
    from ..datasets.normalisation import Numbers

__all__ = ["Healing", "heal"]

Given = TypeVar("Given")


@torch.inference_mode(False)
@torch.enable_grad()
def heal(
    model: nn.Module,
    forget: Any,
    retain: Any,
    method: str = "xlf",
    *,
    clean: Any = None,
    base: nn.Module | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    seed: int | None = None,
    progress: Progress | bool | None = None,
    **settings: Unpack[HealKeywords],
) -> Healing:
    """Heal a poisoned classifier of the trigger that ``forget`` shows.

    Args:
        model: any nn.Module that returns logits [N, classes], or an output that names them ``logits``. It is
            never changed; device, dtype, train/eval mode and ``requires_grad`` of the healed copy are those
            of the original. The latter plays no part: every method changes all floating-point parameters,
            frozen or not. DataParallel and `torch.compile` around a module are taken off: the healed model is
            the module.
        forget: S_f, the samples known to be poisoned, with the labels the poison was trained with; one may be
            given as it is, (image, label).
        retain: the rest of the training set, undiscovered poison included. Both sets are preprocessed as in
            training but not augmented; see `as_batches` for what they may be. Labels of all sets are
            positions in one list of classes, that of the model's outputs; `load_sets` sees to it.
        method: "xlf", "lf" or "ssd" dampen; the methods of `TRAINED_METHODS` train.
        clean: images known to be clean, with their true labels; "ft", "fp", "nad", "nc" and "ibau" need them,
            the others refuse them.
        base: a clean model of the same architecture (pre-trained weights), which "rga" stays close to; the
            others refuse one.
        mean: of the normalisation of images in [0, 1], one number or one a channel; methods that train must
            know it, where the sets are no `View`. Methods that dampen, and Views, refuse it.
        std: its standard deviation, likewise.
        seed: of a method that trains, in [0, 2^63), 0 unless given; those that dampen draw nothing and refuse
            it.
        progress: True shows bars in a terminal or notebook, and a line a minute on stderr elsewhere; a
            function is called with (phase, done, total or None).
        **settings: fields of `HealSettings`, such as search="grid", or of `TuneSettings`, such as samples=50.

    Returns:
        See `Healing`. A model is never wrecked by surprise: unless the status is "stopped" or "done", the
        weights are the victim's.

    Raises:
        BadInput: data, model or settings that cannot be used, before any long work; so are those that
            contradict each other, see `VictimCheck`.
    """
    known = [*METHODS, *TRAINED_METHODS]
    if method not in known:
        hint = closest(str(method), known)
        raise BadInput(f"unknown method {method!r:.60}; choose one of {', '.join(known)}{hint}")
    refuse_unused(method, clean=clean, base=base, mean=mean, std=std, seed=seed)
    drawn, sets = _seed(seed), {"forget set": forget, "retain set": retain, "clean set": clean}
    with _progress(progress) as told, telling_of_dead_workers(sets):
        if method in TRAINED_METHODS:
            given, scale = (forget, retain, clean), _normalisation(mean, std, (forget, retain, clean))
            return _heal_by_training(model, given, base, scale, drawn, told, method=method, **settings)
        return _heal_by_dampening(model, forget, retain, told, method=method, **settings)


def _heal_by_dampening(
    model: nn.Module, forget: Any, retain: Any, progress: Progress, **settings: Any
) -> Healing:
    chosen = heal_settings(**settings)
    victim = working_copy(model)
    device = device_of(victim)
    check_classes({"forget set": forget, "retain set": retain})
    found = as_batches(forget, name="forget set", device=device, batch_size=chosen.batch_size)
    rest = as_batches(retain, name="retain set", device=device, batch_size=chosen.batch_size)
    _check_sizes(len(found), len(rest))
    sets = {"forget set": found, "retain set": rest}
    first_look(victim, sets)
    doubts = (*check_behaviour(victim, sets), *check_alike(sets))
    check = VictimCheck(victim, chosen.method, compared_part(rest, chosen.compared))
    outcome = operate(Operation(victim, found, rest, chosen, check=check, progress=progress))
    metrics = {**metrics_of(outcome, len(found), len(rest)), "classes_seen": check.classes_seen}
    return _conclude(model, victim, outcome, chosen, metrics, (*doubts, *check.warnings))


def _heal_by_training(
    model: nn.Module,
    given: tuple[Any, Any, Any],
    base: nn.Module | None,
    scale: Normalisation | None,
    seed: int,
    progress: Progress,
    **settings: Any,
) -> Healing:
    chosen = tune_settings(**settings)
    victim = working_copy(model).eval()
    device, dtype = device_of(victim), next(victim.parameters()).dtype
    start = None if base is None else working_copy(base, "base").to(device)
    named = dict(zip(("forget", "retain", "clean"), given, strict=True))
    data = {f"{name} set": one for name, one in named.items() if name != "clean" or one is not None}
    check_classes(data)
    batches: dict[str, Batches] = {
        name: as_batches(one, name=name, device=device, batch_size=chosen.batch_size)
        for name, one in data.items()
    }
    _check_sizes(len(batches["forget set"]), len(batches["retain set"]))
    sets = {
        name: as_samples(
            one if isinstance(one, View) else batches[name],
            name=name,
            device=device,
            normalisation=scale,
            dtype=dtype,
        )
        for name, one in data.items()
    }
    first_look(victim, sets, trained="retain set")
    doubts = (*check_behaviour(victim, sets), *check_alike(batches))
    trained = heal_by_training(
        victim, _by_role(sets), _by_role(batches), chosen, base=start, seed=seed, progress=progress
    )
    found, parameters = trained.found, trained.found.chosen
    in_force = {"parameters": json.loads(parameters["parameters"])} if parameters else {}
    return Healing(
        model=with_weights(model, trained.model),
        status=trained.status,
        alpha=None,
        dampening_constant=None,
        trace=found.rows,
        metrics=trained.metrics,
        settings={**chosen.model_dump(), **in_force},
        warnings=(*doubts, *trained.warnings),
    )


def _seed(given: Any) -> int:
    if given is None:
        return 0
    whole = isinstance(given, numbers.Integral) and not isinstance(given, bool)
    if not whole or not 0 <= given < 2**63:
        raise BadInput(f"seed = {shortened(given)}: give a whole number from 0 to 2^63 - 1")
    return int(given)


def _progress(given: Any) -> AbstractContextManager[Progress]:
    if given is True:
        return phase_progress()
    if given is None or given is False:
        return nullcontext(silent)
    if not callable(given):
        raise BadInput(
            f"progress = {shortened(given)}: it cannot be called; give True, a function of (phase, done, "
            f"total), or None"
        )
    return nullcontext(given)


def _by_role(sets: dict[str, Given]) -> dict[str, Given]:
    return {name.removesuffix(" set"): one for name, one in sets.items()}


def _normalisation(mean: Numbers | None, std: Numbers | None, given: Sequence[Any]) -> Normalisation | None:
    if (mean is None) != (std is None):
        raise BadInput(
            f"mean {mean!r:.60}, std {std!r:.60}: give both mean and std of the normalisation, or neither"
        )
    if mean is not None and all(isinstance(data, View) for data in given if data is not None):
        raise BadInput("mean and std: Views know how their images were normalised; leave both out")
    return None if mean is None or std is None else normalisation(mean, std)


def _conclude(
    model: nn.Module,
    victim: nn.Module,
    outcome: Outcome,
    settings: HealSettings,
    metrics: dict[str, Any],
    warnings: tuple[str, ...],
) -> Healing:
    threshold = _threshold(outcome, metrics)
    status = judged(outcome.status, metrics["forget_accuracy"], threshold)
    healed = outcome.at_the_stop() if status in KEPT_STATUSES else victim
    return Healing(
        model=with_weights(model, healed),
        status=status,
        alpha=None if outcome.chosen is None else outcome.chosen.alpha,
        dampening_constant=outcome.found.dampening_constant,
        trace=tuple(outcome.rows()),
        metrics={**metrics, "forget_threshold": threshold},
        settings={**settings.model_dump(), **outcome.found.settings()},
        warnings=warnings,
    )


def _threshold(outcome: Outcome, metrics: dict[str, Any]) -> float:
    """Return the most forget accuracy that a healed model has.

    Found images that a guarded search takes for no poison keep their label, and do not count.
    """
    asked = outcome.found.settings().get("rho")
    rate = outcome.examination.expected_rate * metrics["classes_seen"]
    rho = healed_rho(asked, rate, metrics["forget_count"])
    doubted: float = metrics.get("found_doubted", 0) / metrics.get("found_looked_at", 1)
    before: float = metrics["forget_accuracy_before"]
    return before * (doubted + (1 - doubted) * rho)


def _check_sizes(forget: int, retain: int) -> None:
    if forget >= retain:
        raise BadInput(
            f"the forget set holds {forget} samples and the retain set {retain}; forget must be the "
            f"smaller one (the poison that was found): check whether the two are exchanged"
        )
