"""What `theriac.heal` returns: the model, what became of it, and how that reads and is written."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from ..errors import BadInput
from ..unlearning.inference import first_line
from .export import keep_card
from .given import save_weights
from .healed import KEPT_STATUSES
from .healing_text import healing_html, healing_text
from .notes import notes_on
from .store import checked_folder, provenance

log = logging.getLogger(__name__)


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

    def __repr__(self) -> str:
        """Say in ten lines at most what became of the model."""
        return healing_text(self.summary())

    def _repr_html_(self) -> str:
        """Show the same in a notebook, with the curve of what each setting healed."""
        return healing_html(self.summary())

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what the numbers of the healing cannot see; see the class."""
        return notes_on(self.status, self.metrics)

    @property
    def healed(self) -> bool:
        """Tell whether ``model`` is another than the one that came in, as its status says."""
        return self.status in KEPT_STATUSES

    def summary(self) -> dict[str, Any]:
        """Return everything but the model, ready for JSON."""
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
        """Write ``model.safetensors``, ``healing.json`` and ``README.md`` into ``directory``.

        What get_extra_state() of modules returns is stored as well: tensors with the weights, what JSON can
        hold under "extra_state" of ``healing.json``. ``README.md`` is a model card, as Hugging Face reads it;
        where there is one that theriac did not write, it is left as it is, and a warning says so. The
        directory is made if it is missing.

        Raises:
            BadInput: the directory is empty, a URI, or cannot be written.
        """
        folder = checked_folder(directory, "output folder")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            extra = save_weights(self.model, folder / "model.safetensors")
            report = {**self.summary(), "provenance": _origin(self.model)}
            report |= {"extra_state": extra} if extra else {}
            (folder / "healing.json").write_text(json.dumps(report, indent=2) + "\n")
            if not keep_card(folder, report):
                log.warning("%s is not theriac's, or was changed: it stays as it is", folder / "README.md")
        except (OSError, SafetensorError) as error:
            raise BadInput(
                f"cannot write {directory} ({first_line(error)}); choose a folder you may write to"
            ) from error
        return folder


def _origin(model: nn.Module) -> dict[str, Any]:
    """Return with what a model was healed, and what it is."""
    found = provenance("cpu")  # which device it was is said nowhere else in a report
    kind = type(model)
    return {
        "versions": json.loads(found["versions"] or "{}"),
        "git_commit": found["git_commit"],
        "model_class": f"{kind.__module__}.{kind.__qualname__}",
    }
