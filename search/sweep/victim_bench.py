"""Run a scenario: train what it needs, once, and turn each cell into rows of results."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ... import __version__
from ...datasets.poisoning import PoisonedData, Share
from ...datasets.sources import load_dataset
from ...datasets.splits import NOTHING
from ...datasets.views import View
from ...rows import Row
from ...unlearning.dampening import bytes_of
from ...unlearning.inference import Predicted
from ...unlearning.models import create_model, load_into
from ...unlearning.retraining import train_from_scratch
from ..dampening_run import Progress, compared_part, silent
from ..entry import Material
from ..given import Batches, random_part
from ..searches import SEARCH_ENTRIES
from ..settings import HealSettings
from ..store import ArtifactStore, StoredModel, row_key
from ..truth import Truth, measure_truth
from .cache import Keeper
from .cell_rows import CellRows, cell_key, failed_row, gate_failure, identity, scores
from .scenario import Cell, Scenario, Scoring
from .victim_importances import VictimImportances
from .victim_parts import Compared, Problem, problem_sort


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
        """Return the samples of the part."""
        if self.name == "retain" and self.share is not None:
            return data.retain(self.share)
        return data.train() if self.name == "victim" else data.clean_train()


class Experiment:
    """One scenario on one device.

    Args:
        scenario: what to run.
        store: where trained models are kept.
        data_root: folder of the datasets; None for the default of `load_dataset`.
        device: where everything is computed.
        scoring: what is measured beside the scores of a cell's stop.
        keeper: keeps in memory what several cells use; by default what the last cell used.
    """

    def __init__(
        self,
        scenario: Scenario,
        store: ArtifactStore,
        *,
        data_root: Path | None = None,
        device: str = "cpu",
        scoring: Scoring | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.scenario = scenario
        self.store = store
        self.data_root = data_root
        self.device = torch.device(device)
        self.scoring = scoring or Scoring()
        self.keeper = keeper or Keeper(0)
        self._truths: dict[Part, Truth] = {}

    @cached_property
    def data(self) -> PoisonedData:
        """Load the poisoned dataset at first use; scenarios of one dataset share the pixels."""
        scenario = self.scenario
        name, size = scenario.dataset, scenario.image_size
        dataset = self.keeper.get(
            ("dataset", name, size),
            lambda: load_dataset(name, root=self.data_root, image_size=size).to(self.device),
        )
        return PoisonedData(
            dataset=dataset,
            attack=scenario.attack,
            manipulated=scenario.manipulated,
            seed=scenario.seed,
            device=self.device,
            held_back=scenario.held_back,
        )

    def touch(self) -> None:
        """Tell the keeper that the images are in use, or back: another scenario may want them, too."""
        scenario, dataset = self.scenario, self.data.dataset
        self.keeper.get(("dataset", scenario.dataset, scenario.image_size), lambda: dataset)

    def trained(self, part: Part, progress: Progress = silent) -> StoredModel:
        """Return the model of ``part``, from the store or trained now; its info holds truth and seconds.

        Args:
            part: of the training set.
            progress: called with the phase, iterations done and in all.
        """
        key = self._model_key(part)
        found = self._stored(key, part)
        if found is None:
            with self.store.making(key):
                found = self._stored(key, part) or self._train(key, part, progress)
        return found

    def _stored(self, key: str, part: Part) -> StoredModel | None:
        """Return the model under ``key``, if it says that it is that of ``part``."""
        found = self.store.find(key)
        if found is None or self._is_of(found.info, part):
            return found
        self.store.refuse("models", key, f"it is not the {part.name} model of this scenario")
        return None

    def _is_of(self, info: dict[str, Any], part: Part) -> bool:
        """Tell whether a model was trained as this scenario says.

        Clean ones serve attacks with other triggers.
        """
        left_out = {"gate", "held_back"} | ({"attack"} if part.name == "clean" else set())
        trees = (info.get("scenario") or {}, self.scenario.model_dump(mode="json"))
        theirs, ours = ({key: tree[key] for key in tree.keys() - left_out} for tree in trees)
        return theirs == ours and info.get("part") == asdict(part)

    @cached_property
    def importances(self) -> VictimImportances:
        """Return the victim's importances; it must be in the store by the time they are computed."""
        return VictimImportances(self.data, lambda: self.victim, self._model_key(Part("victim")), self.store)

    @cached_property
    def victim(self) -> nn.Module:
        """Return the victim, from the store or trained now; not to be changed."""
        return self.model(self.trained(Part("victim")))

    @property
    def victim_checksum(self) -> str:
        """Return the SHA-256 of the victim's weights, which is trained now if it is not in the store."""
        return self.trained(Part("victim")).checksum

    @property
    def held_bytes(self) -> int:
        """Count the bytes of the victim, if it is in memory; those of the images count as the dataset's."""
        victim = self.__dict__.get("victim")
        return bytes_of(victim.state_dict().values()) if victim else 0

    def model(self, stored: StoredModel) -> nn.Module:
        """Return a stored model on the device, in eval mode."""
        scenario, dataset = self.scenario, self.data.dataset
        model = create_model(scenario.model, num_classes=len(dataset.classes), shape=dataset.shape)
        load_into(model, stored.state_dict(), stored.weights)
        return model.to(self.device).eval()

    def scored(self, cell: Cell, columns: Row, truth: Truth | None, steps: Sequence[Row] = ()) -> CellRows:
        """Return the rows of a cell whose model has this truth (None: the weights are the victim's).

        Args:
            cell: one of the scenario's.
            columns: of `searches`, which its search or training found.
            truth: of the healed model; None: the weights are the victim's.
            steps: rows of `steps`.
        """
        before = self.truth(Part("victim"))
        clean = self.truth(Part("clean")).healed_raw if self.scoring.reference else None
        row = {**self.head(cell), **scores(before, truth or before, clean), **columns}
        return CellRows(search=row, steps=list(steps))

    def gate_failure(self) -> Row | None:
        """Return the columns of a failed gate, see `cell_rows.gate_failure`; trains the victim if need be."""
        return gate_failure(self.scenario, self.truth(Part("victim")))

    def problem(self, cell: Cell, progress: Progress = silent) -> Problem:
        """Return what the cell's search works on; kept, so that cells that differ in the search share it.

        Args:
            cell: one that dampens.
            progress: called with the phase, samples done and in all.
        """
        settings = cell.dampening or HealSettings()
        key = ("problem", self.scenario.key, cell.share, *problem_sort(settings))
        return self.keeper.get(key, lambda: self._problem(cell, settings, progress))

    def _problem(self, cell: Cell, settings: HealSettings, progress: Progress) -> Problem:
        timed = self.importances.of(cell.share, settings, progress)
        start, size = time.perf_counter(), settings.batch_size

        def compared() -> tuple[Batches, Predicted]:
            known = self.compared(cell)
            part = compared_part(self.data.retain(cell.share).batched(size), settings.compared)
            return part, (known.predictions, known.labels)

        material = Material(
            victim=self.victim,
            forget=self.data.forget(cell.share).batched(size),
            pair=timed.pair,
            settings=settings,
            compared=compared,
        )
        problem = SEARCH_ENTRIES[settings.search].problem(material)
        return Problem(problem=problem, seconds=timed.seconds + time.perf_counter() - start)

    def compared(self, cell: Cell) -> Compared:
        """Return the victim on the part of retain that cells compare, kept.

        If that is all of retain, every share needs the same predictions: those of S_tr.
        """
        settings, retain = cell.settings or HealSettings(), self.data.retain(cell.share)
        if settings.compared == "all":
            whole = self.keeper.get(
                ("compared", self.scenario.key), lambda: Compared.of(self.victim, self.data.train())
            )
            return whole.at(retain.positions)
        key = ("compared", self.scenario.key, cell.share, settings.compared)
        part = random_part(retain, settings.compared)
        return self.keeper.get(key, lambda: Compared.of(self.victim, part))

    def failed(self, cell: Cell, error: BaseException) -> Row:
        """Return the row of a cell that raised ``error``.

        Args:
            cell: one of the scenario's.
            error: what it raised.
        """
        return failed_row(self.scenario, cell, type(error).__name__, str(error))

    def key(self, cell: Cell) -> str:
        """Return the key of the cell's row in `searches`."""
        return cell_key(self.scenario, cell)

    def truth(self, part: Part) -> Truth:
        if part not in self._truths:
            stored = self.trained(part)
            known = self._measured_like(stored.info["scenario"])
            found = Truth(**stored.info["truth"]) if known else None
            self._truths[part] = found or measure_truth(self.model(stored), self.data)
        return self._truths[part]

    def _measured_like(self, scenario: dict[str, Any]) -> bool:
        """Tell whether a model's truth is this scenario's: of its attack, on all test images."""
        ours = self.scenario.attack.model_dump(mode="json")
        return self.scenario.held_back == NOTHING and scenario["attack"] == ours

    def head(self, cell: Cell) -> Row:
        """Name the cell, and what its victim took: columns that every row of it has."""
        victim = self.trained(Part("victim"))
        return {**identity(self.scenario, cell), "seconds_victim": victim.info["seconds"]}

    def _model_key(self, part: Part) -> str:
        determines = self.scenario.clean_key if part.name == "clean" else self.scenario.victim_key
        return row_key(determines, part.name, str(part.share), __version__)

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
            "truth": asdict(measure_truth(model, replace(self.data, held_back=NOTHING))),
            "seconds": seconds,
            "train_count": len(self.data.train()),
        }
        return self.store.put(key, model.state_dict(), info)
