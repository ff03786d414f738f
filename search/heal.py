"""Heal one model: importances, a search, a report that does not flatter. The product in one call."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import Tensor, nn

from ..errors import BadInput
from .heal_training import heal_by_training, tune_settings
from .inputs import as_batches
from .operation import Operation, Outcome, Progress, metrics_of, operate, silent
from .samples import Normalisation, as_samples
from .settings import METHODS, HealSettings, heal_settings
from .sweep_tree import closest
from .tune_settings import TRAINED_METHODS


@dataclass(frozen=True, kw_only=True, eq=False)
class Healing:
    """What `heal` returns.

    Attributes:
        model: a new model: healed where the status is "stopped" or "done", else with the victim's weights.
        status: "stopped" (healed as far as S_f can show), "done" (the one run of a fixed search ended),
            "no_stop" (no setting brought the forget accuracy down to the threshold; of a grid and tpe: none
            scores better than the victim as it is; of a guarded search: nothing tells S_f from other samples
            of its class, or nothing heals without too much harm), "collapsed" (the setting that did wrecks
            the model) or "failed" (no run of a method that trains came to its end).
        alpha: selection threshold of the stop, a grid's of the best pair; None for "no_stop", and for methods
            that train.
        dampening_constant: lambda there; None likewise.
        trace: one dict per evaluated setting. Of PTN: s, percentile, alpha, dampening_constant, dampened,
            forget_accuracy, crossed; forget_accuracy is None where the first batches of S_f decided it (only
            if S_f exceeds one batch). Of a grid: alpha, dampening_constant, dampened, forget_accuracy,
            held_out_accuracy, score. Of a guarded search: alpha, dampening_constant, dampened,
            suspected_healed, flips_target, flips_other, harm, status, left_out, score; see `guarded`. Of a
            method that trains: parameters, status, forget_accuracy, the fields of `Harm`, score, pareto,
            seconds, and as JSON the trace of the run itself.
        metrics: counts, accuracies before and after (of the stop, also where it was not applied), seconds by
            phase, peak memory in bytes. Measured without held-out truth; see `Harm` for their meaning. A
            grid's held_out_... are of the part of retain that it was judged on, score is its highest. Those
            of a guarded search are in `GuardedFinding.metrics`.
        settings: all settings in force, without those of the other search; rho as the number that was used;
            of a method that trains, ``parameters`` are those of the model.
    """

    model: nn.Module
    status: str
    alpha: float | None
    dampening_constant: float | None
    trace: tuple[dict[str, Any], ...]
    metrics: dict[str, Any]
    settings: dict[str, Any]

    def summary(self) -> dict[str, Any]:
        """Everything but the model, ready for JSON."""
        return {
            "status": self.status,
            "alpha": self.alpha,
            "dampening_constant": self.dampening_constant,
            "metrics": self.metrics,
            "settings": self.settings,
            "trace": list(self.trace),
        }

    def save(self, directory: str | Path) -> Path:
        """Write ``model.safetensors`` and ``healing.json`` into ``directory`` (made if missing).

        Raises:
            BadInput: the directory cannot be written.
        """
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            save_model(self.model, str(directory / "model.safetensors"))
            (directory / "healing.json").write_text(json.dumps(self.summary(), indent=2) + "\n")
        except OSError as error:
            raise BadInput(f"cannot write {directory} ({error}); choose a folder you may write to") from error
        return directory


def heal(
    model: nn.Module,
    forget: Any,
    retain: Any,
    method: str = "xlf",
    *,
    clean: Any = None,
    base: nn.Module | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    progress: Progress = silent,
    **settings: Any,
) -> Healing:
    """Heal a poisoned classifier of the trigger that ``forget`` shows.

    Args:
        model: any nn.Module that returns logits [N, classes]. It is never changed; device, dtype and
            train/eval mode of the healed copy are those of the original.
        forget: S_f, the samples known to be poisoned, with the labels the poison was trained with.
        retain: the rest of the training set, undiscovered poison included. Both sets are preprocessed as in
            training but not augmented; see `as_batches` for what they may be.
        method: "xlf", "lf" or "ssd" dampen; the methods of `TRAINED_METHODS` train.
        clean: images known to be clean, with their true labels; "ft", "fp", "nad", "nc" and "ibau" need them.
        base: a clean model of the same architecture (pre-trained weights), which "rga" stays close to.
        mean: of the normalisation of images in [0, 1], one number or one a channel; methods that train must
            know it, where the sets are no `View`.
        std: its standard deviation, likewise.
        seed: of a method that trains.
        progress: called with (phase, done, total or None).
        **settings: fields of `HealSettings`, such as search="grid", or of `TuneSettings`, such as samples=50.

    Returns:
        See `Healing`. A model is never wrecked by surprise: unless the status is "stopped" or "done", the
        weights are the victim's.

    Raises:
        BadInput: data, model or settings that cannot be used, before any long work.
    """
    if method in TRAINED_METHODS:
        normalisation = _normalisation(mean, std)
        return _heal_by_training(
            model, (forget, retain, clean), base, normalisation, seed, progress, method=method, **settings
        )
    if method not in METHODS:
        known = [*METHODS, *TRAINED_METHODS]
        raise BadInput(f"unknown method {method!r}; choose one of {', '.join(known)}{closest(method, known)}")
    chosen = heal_settings(method=method, **settings)
    victim, device = _working_copy(model), _device_of(model)
    found = as_batches(forget, name="forget set", device=device, batch_size=chosen.batch_size)
    rest = as_batches(retain, name="retain set", device=device, batch_size=chosen.batch_size)
    _check_sizes(len(found), len(rest))
    outcome = operate(Operation(victim, found, rest, chosen, progress=progress))
    return _conclude(model, victim, outcome, chosen, metrics_of(outcome, len(found), len(rest)))


def _heal_by_training(
    model: nn.Module,
    given: tuple[Any, Any, Any],
    base: nn.Module | None,
    normalisation: Normalisation | None,
    seed: int,
    progress: Progress,
    **settings: Any,
) -> Healing:
    chosen = tune_settings(**settings)
    victim, device = _working_copy(model).eval(), _device_of(model)
    names = ("forget", "retain", "clean")
    sets = {
        name: as_samples(data, name=f"{name} set", device=device, normalisation=normalisation)
        for name, data in zip(names, given, strict=True)
        if data is not None
    }
    forget, retain = (
        as_batches(data, name=f"{name} set", device=device, batch_size=chosen.batch_size)
        for name, data in zip(names[:2], given[:2], strict=True)
    )
    _check_sizes(len(forget), len(retain))
    trained = heal_by_training(
        victim, sets, (forget, retain), chosen, base=base, seed=seed, progress=progress
    )
    found, parameters = trained.found, trained.found.chosen
    in_force = {"parameters": json.loads(parameters["parameters"])} if parameters else {}
    return Healing(
        model=_with_weights(model, trained.model),
        status=found.status,
        alpha=None,
        dampening_constant=None,
        trace=found.rows,
        metrics=trained.metrics,
        settings={**chosen.model_dump(), **in_force},
    )


def _normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> Normalisation | None:
    if (mean is None) != (std is None):
        raise BadInput(f"mean {mean!r}, std {std!r}: give both mean and std of the normalisation, or neither")
    return None if mean is None or std is None else (tuple(mean), tuple(std))


def _conclude(
    model: nn.Module, victim: nn.Module, outcome: Outcome, settings: HealSettings, metrics: dict[str, Any]
) -> Healing:
    healed = outcome.at_the_stop() if outcome.status == "stopped" else victim
    return Healing(
        model=_with_weights(model, healed),
        status=outcome.status,
        alpha=None if outcome.chosen is None else outcome.chosen.alpha,
        dampening_constant=outcome.found.dampening_constant,
        trace=tuple(outcome.rows()),
        metrics=metrics,
        settings={**settings.model_dump(), **outcome.found.settings()},
    )


def _working_copy(model: nn.Module) -> nn.Module:
    """A copy in float32 or better, whose weights are checked."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise BadInput(
                f"the model's {name!r} holds NaN or infinite values; give weights from before they diverged"
            )
    try:
        victim = copy.deepcopy(model)
    except Exception as error:
        raise BadInput(f"the model cannot be copied ({error}); give one that can be") from error
    half = any(p.dtype in (torch.float16, torch.bfloat16) for p in victim.parameters())
    return victim.float() if half else victim


def _device_of(model: nn.Module) -> torch.device:
    devices = {p.device for p in model.parameters()}
    if len(devices) != 1:
        raise BadInput(
            f"the model's parameters lie on {sorted(map(str, devices)) or 'no device'}; put all on one"
        )
    return devices.pop()


def _check_sizes(forget: int, retain: int) -> None:
    if forget >= retain:
        raise BadInput(
            f"the forget set holds {forget} samples and the retain set {retain}; forget must be the "
            f"smaller one (the poison that was found): check whether the two are exchanged"
        )


@torch.no_grad()
def _with_weights(model: nn.Module, source: nn.Module) -> nn.Module:
    """A copy of ``model`` (dtype, mode, hooks) with the weights and statistics of ``source``."""
    healed = copy.deepcopy(model)
    for named, own in (
        (source.named_parameters, healed.named_parameters),
        (source.named_buffers, healed.named_buffers),
    ):
        tensors: dict[str, Tensor] = dict(named())
        for name, tensor in own():
            tensor.copy_(tensors[name])
    return healed
