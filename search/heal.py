"""Heal one model: importances, a search, a report that does not flatter. The product in one call."""

from __future__ import annotations

import json
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import nn

from ..datasets.normalisation import Normalisation, normalisation
from ..datasets.views import View
from ..errors import BadInput, closest, shortened
from ..unlearning.inference import first_line
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
    save_weights,
    telling_of_dead_workers,
    with_weights,
    working_copy,
)
from .healed import KEPT_STATUSES, healed_rho, judged
from .notes import notes_on
from .settings import METHODS, HealSettings, heal_settings
from .store import checked_folder
from .training import TRAINED_METHODS, heal_by_training, tune_settings
from .used_arguments import refuse_unused

if TYPE_CHECKING:
    from ..datasets.normalisation import Numbers

Given = TypeVar("Given")


@dataclass(frozen=True, kw_only=True, eq=False)
class Healing:
    """What `heal` returns.

    Attributes:
        model: a new model: healed where the status is "stopped" or "done", else with the victim's weights.
        status: "stopped" (healed as far as S_f can show), "done" (likewise, by the one run of a fixed
            search), "not_healed" (the best setting, or the one run, leaves more of S_f predicted as labelled
            than ``forget_threshold``), "no_stop" (no setting brought the forget accuracy down to the
            threshold; of a grid and tpe: none scores better than the victim as it is; of a guarded search:
            nothing tells S_f from other samples of its class, or nothing heals without too much harm),
            "collapsed" (the setting that did wrecks the model) or "failed" (no run of a method that trains
            came to its end).
        alpha: selection threshold of the stop, a grid's of the best pair; None for "no_stop", and for methods
            that train.
        dampening_constant: lambda there; None likewise.
        trace: one dict per evaluated setting. Of PTN: s, percentile, alpha, dampening_constant, dampened,
            forget_accuracy, crossed; forget_accuracy is None where the first batches of S_f decided it (only
            if S_f exceeds one batch). Of a grid: alpha, dampening_constant, dampened, forget_accuracy,
            held_out_accuracy, score. Of a guarded search: alpha, dampening_constant, dampened,
            suspected_healed, flips_target, flips_other, harm, status, left_out, score (`GuardedStep`). Of a
            method that trains: parameters, status, forget_accuracy, the fields of `Harm`, score, pareto,
            seconds, and as JSON the trace of the run itself.
        metrics: counts, accuracies before and after (of the stop, also where it was not applied), seconds by
            phase, peak memory in bytes. ``forget_threshold`` is the forget accuracy of a healed model, at
            most: rho times the victim's. Measured without held-out truth; see `Harm` for their meaning. A
            grid's held_out_... are of the part of retain that it was judged on, score is its highest. Those
            of a guarded search are in `GuardedFinding.metrics`.
        settings: all settings in force, without those of the other search; rho as the number that was used;
            of a method that trains, ``parameters`` are those of the model.
        warnings: doubts about model and data, such as a victim that contradicts many labels; logged, too.
        notes: what the verdict cannot see, such as a single found image; none unless healed.
    """

    model: nn.Module
    status: str
    alpha: float | None
    dampening_constant: float | None
    trace: tuple[dict[str, Any], ...]
    metrics: dict[str, Any]
    settings: dict[str, Any]
    warnings: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """See the class."""
        return notes_on(self.status, self.metrics)

    @property
    def healed(self) -> bool:
        """Whether ``model`` is another than the one that came in, as its status says."""
        return self.status in KEPT_STATUSES

    def summary(self) -> dict[str, Any]:
        """Everything but the model, ready for JSON."""
        return {
            "status": self.status,
            "healed": self.healed,
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            "alpha": self.alpha,
            "dampening_constant": self.dampening_constant,
            "metrics": self.metrics,
            "settings": self.settings,
            "trace": list(self.trace),
        }

    def save(self, directory: str | Path) -> Path:
        """Write ``model.safetensors`` and ``healing.json`` into ``directory`` (made if missing).

        What get_extra_state() of modules returns is stored as well: tensors with the weights, what JSON can
        hold under "extra_state" of ``healing.json``.

        Raises:
            BadInput: the directory is empty, a URI, or cannot be written.
        """
        folder = checked_folder(directory, "output folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            extra = save_weights(self.model, folder / "model.safetensors")
            report = {**self.summary(), **({"extra_state": extra} if extra else {})}
            (folder / "healing.json").write_text(json.dumps(report, indent=2) + "\n")
        except (OSError, SafetensorError) as error:
            raise BadInput(
                f"cannot write {directory} ({first_line(error)}); choose a folder you may write to"
            ) from error
        return folder


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
    progress: Progress | None = None,
    **settings: Any,
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
        progress: called with (phase, done, total or None); None: nothing is.
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
    drawn, told = _seed(seed), _progress(progress)
    with telling_of_dead_workers({"forget set": forget, "retain set": retain, "clean set": clean}):
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


def _progress(given: Any) -> Progress:
    if given is None:
        return silent
    if not callable(given):
        raise BadInput(
            f"progress = {shortened(given)}: it cannot be called; give a function of (phase, done, total), "
            f"or None"
        )
    told: Progress = given
    return told


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
    """The forget accuracy of a healed model, at most.

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
