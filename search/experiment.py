"""Run a scenario: train what it needs, once, and turn each cell into rows of results."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from .. import __version__
from ..datasets.poisoning import PoisonedData, Share, discovered_count
from ..datasets.sources import load_dataset
from ..datasets.views import View
from ..unlearning.metrics import damage, healed
from ..unlearning.models import create_model, load_into
from ..unlearning.retraining import train_from_scratch
from .artifacts import ArtifactStore, StoredModel
from .importances import VictimImportances
from .operation import ImportancePair, Outcome, Progress, operate, silent
from .provenance import row_key
from .scenarios import Cell, Scenario, Scoring
from .settings import HealSettings
from .truth import Truth, measure_truth

Row = dict[str, Any]

STEPS_AFTER_STOP = 15


@dataclass(frozen=True)
class Part:
    """Which part of the training set a model is trained on.

    Attributes:
        name: "victim" (all of S_tr), "retain" (S_tr without S_f: EU) or "clean" (S_tr without S_m: the
            reference of `healed`).
        share: the discovery share of "retain", else None.
    """

    name: Literal["victim", "retain", "clean"]
    share: Share | None = None

    def view(self, data: PoisonedData) -> View:
        """The samples."""
        if self.name == "retain" and self.share is not None:
            return data.retain(self.share)
        return data.train() if self.name == "victim" else data.clean_train()


@dataclass(frozen=True, kw_only=True)
class CellRows:
    """What a finished cell adds to the results: one row of `searches`, and its rows of `steps`."""

    search: Row
    steps: list[Row]


@dataclass(frozen=True, kw_only=True)
class _Treated:
    """What a method did: truth after it (None: the weights are the victim's), columns of its own, steps."""

    columns: Row
    truth: Truth | None = None
    steps: list[Row] = field(default_factory=list)


class Experiment:
    """One scenario on one device.

    Args:
        scenario: what to run.
        store: where trained models are kept.
        data_root: folder of the datasets; None for the default of `load_dataset`.
        device: where everything is computed.
        scoring: what is measured beside the scores of a cell's stop.
    """

    def __init__(
        self,
        scenario: Scenario,
        store: ArtifactStore,
        *,
        data_root: Path | None = None,
        device: str = "cpu",
        scoring: Scoring | None = None,
    ) -> None:
        self.scenario = scenario
        self.store = store
        self.data_root = data_root
        self.device = torch.device(device)
        self.scoring = scoring or Scoring()

    @cached_property
    def data(self) -> PoisonedData:
        """The poisoned dataset, loaded at first use."""
        scenario = self.scenario
        return PoisonedData(
            dataset=load_dataset(scenario.dataset, root=self.data_root, image_size=scenario.image_size),
            attack=scenario.attack,
            manipulated=scenario.manipulated,
            seed=scenario.seed,
            device=self.device,
        )

    def trained(self, part: Part, progress: Progress = silent) -> StoredModel:
        """The model trained on ``part``, from the store or trained now; its info holds truth and seconds."""
        key = self._model_key(part)
        found = self.store.find(key)
        if found is None:
            with self.store.making(key):
                found = self.store.find(key) or self._train(key, part, progress)
        return found

    @cached_property
    def importances(self) -> VictimImportances:
        """Of the victim, which must be in the store by the time they are computed."""
        key = self._model_key(Part("victim"))
        return VictimImportances(self.data, lambda: self.model(self.trained(Part("victim"))), key, self.store)

    def model(self, stored: StoredModel) -> nn.Module:
        """A stored model on the device, in eval mode."""
        scenario, dataset = self.scenario, self.data.dataset
        model = create_model(scenario.model, num_classes=len(dataset.classes), shape=dataset.shape)
        load_into(model, stored.state_dict(), stored.weights)
        return model.to(self.device).eval()

    def run(self, cell: Cell, *, progress: Progress = silent) -> CellRows:
        """The rows of ``cell``.

        Args:
            cell: what to do.
            progress: called with (phase, done, total or None).
        """
        victim = self.trained(Part("victim"), progress)
        before = Truth(**victim.info["truth"])
        failure = self._gate_failure(before)
        if failure:
            return CellRows(search={**self._head(cell, victim), **failure}, steps=[])
        reference = self.trained(Part("clean"), progress) if self.scoring.reference else None
        treat = self._dampened if cell.baseline is None else self._baseline
        treated = treat(cell, victim, progress)
        row = {
            **self._head(cell, victim),
            **_scores(before, treated.truth or before, reference),
            **treated.columns,
        }
        return CellRows(search=row, steps=treated.steps)

    def failed(self, cell: Cell, error: BaseException) -> Row:
        """The row of a cell that raised ``error``."""
        return {
            **self._identity(cell),
            "status": "failed",
            "error_class": type(error).__name__,
            "error_message": str(error),
        }

    def _model_key(self, part: Part) -> str:
        return row_key(self.scenario.key, part.name, str(part.share), __version__)

    def _train(self, key: str, part: Part, progress: Progress) -> StoredModel:
        start = time.perf_counter()
        model = train_from_scratch(
            self.scenario.model,
            part.view(self.data),
            self.scenario.recipe,
            seed=self.scenario.seed,
            num_classes=len(self.data.dataset.classes),
            progress=lambda done, total: progress(f"training {part.name}", done, total),
        )
        seconds = time.perf_counter() - start
        info = {
            "part": asdict(part),
            "scenario": self.scenario.model_dump(mode="json"),
            "truth": asdict(measure_truth(model, self.data)),
            "seconds": seconds,
        }
        return self.store.put(key, model.state_dict(), info)

    def _gate_failure(self, victim: Truth) -> Row | None:
        gate = self.scenario.gate
        if victim.clean_accuracy >= gate.clean_accuracy and victim.asr >= gate.asr:
            return None
        return {
            **_truth_before(victim),
            "status": "gate_failed",
            "error_class": "GateFailed",
            "error_message": (
                f"the victim has clean accuracy {victim.clean_accuracy:.1%} (gate {gate.clean_accuracy:.1%}) "
                f"and ASR {victim.asr:.1%} (gate {gate.asr:.1%}); train it longer or change the recipe"
            ),
        }

    def _baseline(self, cell: Cell, victim: StoredModel, progress: Progress) -> _Treated:
        """Nothing, or retraining on retain; its time counts as the search."""
        if cell.baseline == "none":
            return _Treated(columns={"status": "done", "seconds_search": 0.0})
        stored = self.trained(Part("retain", cell.share), progress)
        return _Treated(
            truth=Truth(**stored.info["truth"]),
            columns={"status": "done", "seconds_search": stored.info["seconds"]},
        )

    def _dampened(self, cell: Cell, victim: StoredModel, progress: Progress) -> _Treated:
        settings = cell.settings or HealSettings()
        seconds_importance = 0.0

        def importances() -> ImportancePair:
            nonlocal seconds_importance
            timed = self.importances.of(cell.share, settings, progress)
            seconds_importance = timed.seconds
            return timed.pair

        outcome = operate(
            self.model(victim),
            self.data.forget(cell.share).batched(settings.batch_size),
            self.data.retain(cell.share).batched(settings.batch_size),
            settings,
            importances=importances,
            progress=progress,
        )
        start = time.perf_counter()
        truth, steps = self._truth_at(outcome), list(self._steps(cell, outcome, progress))
        seconds = time.perf_counter() - start
        columns = {
            **_found(outcome),
            "seconds_importance": seconds_importance,
            "seconds_evaluation": seconds,
        }
        return _Treated(truth=truth, columns=columns, steps=steps)

    def _truth_at(self, outcome: Outcome) -> Truth | None:
        """Of the stop, collapsed or not; None without a stop."""
        if outcome.chosen is None:
            return None
        return measure_truth(outcome.at_the_stop(), self.data)

    def _steps(self, cell: Cell, outcome: Outcome, progress: Progress) -> Iterator[Row]:
        """Rows of `steps`; truth is measured on `Scoring.steps` of them, and beyond the stop."""
        rows = [{**row, "after_stop": False} for row in outcome.rows()]
        stride = max(1, len(rows) // max(1, self.scoring.steps))
        if self.scoring.steps:
            rows += [{**row, "after_stop": True} for row in outcome.beyond_the_stop(STEPS_AFTER_STOP)]
        for number, row in enumerate(rows):
            wanted = row["after_stop"] or row.get("crossed") or number % stride == 0
            if wanted and self.scoring.steps:
                model = outcome.problem.dampened(row["alpha"], row["dampening_constant"])
                row |= _truth_columns(measure_truth(model, self.data))
            search = self.key(cell)
            yield {"key": row_key(search, number), "search": search, "step": number, **row}
            progress("scoring", number + 1, len(rows))

    def key(self, cell: Cell) -> str:
        """Key of the cell's row in `searches`."""
        return row_key(self.scenario.key, cell.model_dump(mode="json"))

    def _identity(self, cell: Cell) -> Row:
        scenario = self.scenario
        return {
            "key": self.key(cell),
            "scenario": scenario.key,
            "dataset": scenario.dataset,
            "model": scenario.model.name,
            "attack": scenario.attack.trigger.name,
            "target": scenario.attack.target,
            "manipulated": scenario.manipulated,
            "discovered": discovered_count(scenario.manipulated, cell.share),
            "share": cell.share_name,
            "seed": scenario.seed,
            "method": cell.method,
            "granularity": cell.settings.granularity if cell.settings else None,
            "search": cell.search,
            "settings": cell.settings.model_dump_json() if cell.settings else None,
            "uses_oracle": False,
        }

    def _head(self, cell: Cell, victim: StoredModel) -> Row:
        return {**self._identity(cell), "seconds_victim": victim.info["seconds"]}


def _found(outcome: Outcome) -> Row:
    chosen, before = outcome.chosen, outcome.examination.forget_accuracy
    return {
        "status": outcome.status,
        **outcome.found.columns(),
        "forget_accuracy_before": before,
        "forget_accuracy": before if chosen is None else chosen.forget_accuracy,
        "seconds_search": outcome.seconds["search"],
        "peak_memory": outcome.peak_memory,
    }


def _truth_before(victim: Truth) -> Row:
    return {
        "clean_accuracy_before": victim.clean_accuracy,
        "asr_before": victim.asr,
        "healed_raw_before": victim.healed_raw,
    }


def _truth_columns(truth: Truth) -> Row:
    return {"clean_accuracy": truth.clean_accuracy, "asr": truth.asr, "healed_raw": truth.healed_raw}


def _scores(before: Truth, after: Truth, reference: StoredModel | None) -> Row:
    clean_raw = None if reference is None else reference.info["truth"]["healed_raw"]
    return {
        **_truth_before(before),
        **_truth_columns(after),
        "damage": damage(after.clean_accuracy, before.clean_accuracy),
        "healed": healed(after.healed_raw, clean_raw),
        "lfr": after.lfr,
    }
