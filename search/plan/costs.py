"""What the parts of a sweep cost: seconds and bytes, measured or given, from which plans are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from ...datasets.augmentation import Augmentation
from ...unlearning.importance import Kind
from ...unlearning.kinds import Granularity, Precision
from ...unlearning.methods import Set
from ...unlearning.models import ModelSpec
from ...unlearning.training import Recipe
from ..expected import Looked, Sizes
from ..searches import SEARCH_ENTRIES
from ..settings import HealSettings
from ..sweep import VICTIM, Answer, ImportanceJob, ImportancePart, Scenario, ScenarioPlan, Task
from ..training import TRAINED_METHODS, TuneSettings, from_recipe, unlearner


class ScenarioSort(BaseModel):
    """What of a scenario its costs depend on; others of the same sort cost the same.

    Attributes:
        dataset, image_size, model: see `Scenario`.
        optimizer, batch_size, augmentation, precision: of the recipe.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    image_size: int | None
    model: ModelSpec
    optimizer: Literal["sgd", "adamw"]
    batch_size: int
    augmentation: Augmentation
    precision: Literal["float32", "bfloat16"]

    @classmethod
    def of(cls, scenario: Scenario) -> ScenarioSort:
        """Return the sort of a scenario."""
        recipe = scenario.recipe
        return cls(
            dataset=scenario.dataset,
            image_size=scenario.image_size,
            model=scenario.model,
            optimizer=recipe.optimizer,
            batch_size=recipe.batch_size,
            augmentation=recipe.augmentation,
            precision=recipe.precision,
        )

    @property
    def name(self) -> str:
        """Name the sort in a few words."""
        size = "" if self.image_size is None else f" at {self.image_size} pixels"
        width = "" if self.model.width == 1 else f" x {self.model.width:g}"
        return f"{self.model.name}{width} on {self.dataset}{size}, trained in batches of {self.batch_size}"


class Reading(NamedTuple):
    """A way to read a set for importances."""

    kinds: tuple[Kind, ...]
    granularity: Granularity
    precision: Precision
    batch_size: int

    @classmethod
    def of(cls, part: ImportancePart) -> Reading:
        """Return the reading of a part."""
        return cls(part.kinds, part.granularity, part.precision, part.batch_size)


class ForgetPass(NamedTuple):
    """A way to read S_f for a setting of a search."""

    batch_size: int
    piece: int | Literal["whole"]

    @classmethod
    def of(cls, settings: HealSettings) -> ForgetPass:
        """Return the forget pass of a method."""
        return cls(settings.batch_size, settings.piece)


@dataclass(frozen=True, kw_only=True)
class Line:
    """Seconds for n samples: ``fixed + each * n``; both at least 0."""

    fixed: float = 0.0
    each: float = 0.0

    def at(self, count: int) -> float:
        """Compute the seconds for ``count`` samples."""
        return self.fixed + self.each * count


@dataclass(frozen=True, kw_only=True)
class SortCosts:
    """What scenarios of one sort cost on one device; times in seconds, sizes in bytes.

    Attributes:
        train_count: |S_tr|.
        test_count: test images, without trigger.
        classes: of the dataset.
        parameters: of the model.
        model_bytes: of its state dict.
        importance_bytes: of the importances of one kind: float64 sums.
        load: to load the dataset.
        build: to make a model and load its weights.
        iteration: of training.
        forward: for each image of a forward pass.
        importance: for each reading, by samples; all kinds together.
        store: to write importances of one kind.
        read: to read them.
        problem: to build a dampening problem, up to its first setting.
        setting: for each later setting, by samples of S_f.
        training: of a whole training, where earlier runs measured it; None: iterations are counted.
        measured_setting: `pace_name` -> a setting of such a search, where earlier runs measured it.
    """

    train_count: int
    test_count: int
    classes: int
    parameters: int
    model_bytes: int
    importance_bytes: int
    load: float
    build: float
    iteration: float
    forward: float
    importance: Mapping[Reading, Line]
    store: float
    read: float
    problem: float
    setting: Mapping[ForgetPass, Line]
    training: float | None = None
    measured_setting: Mapping[str, float] | None = None

    def train_seconds(self, scenario: Scenario) -> float:
        """Return the seconds of one training, without the scoring."""
        return self.iteration * scenario.recipe.iterations if self.training is None else self.training

    def truth_seconds(self, scenario: Scenario) -> float:
        """Return the seconds of scoring a model on the test images, clean and with every trigger."""
        return (1 + len(scenario.attack.triggers)) * self.test_count * self.forward

    def reading_seconds(self, reading: Reading, samples: int) -> float:
        """Return the seconds of importances of so many samples.

        A single kind of granularity "batch" is taken from a reading with several: all share a forward pass,
        and each has a backward pass of twice its length.

        Raises:
            KeyError: nothing like it was measured.
        """
        if reading in self.importance:
            return self.importance[reading].at(samples)
        kinds, others = reading.kinds, reading[1:]
        like = next(
            (one for one in self.importance if one[1:] == others and set(kinds) <= set(one.kinds)), None
        )
        if like is None:
            raise KeyError(f"no costs of {reading}")
        return self.importance[like].at(samples) * (1 + 2 * len(kinds)) / (1 + 2 * len(like.kinds))

    def setting_seconds(self, settings: HealSettings, forget_count: int) -> float:
        """Return the seconds of one setting of a search."""
        measured = (self.measured_setting or {}).get(pace_name(settings.method, settings.search))
        if measured is not None:
            return measured
        sizes = Sizes(forget=forget_count, train=self.train_count)
        looked: Looked = SEARCH_ENTRIES[settings.search].expected.setting(settings, sizes)
        return self.setting[ForgetPass.of(settings)].at(looked.forget) + looked.others * self.forward

    def trial_seconds(self, settings: TuneSettings, recipe: Recipe, sizes: Mapping[Set, int]) -> float:
        """Return the seconds of one run of a method that trains on sets of these sizes, unjudged."""
        measured = (self.measured_setting or {}).get(pace_name(settings.method, settings.search))
        if measured is not None:
            return measured
        given = {**from_recipe(settings.method, recipe), **settings.parameters}
        return unlearner(settings.method, given).work(sizes, self.classes) * self.forward


def pace_name(method: str, search: str) -> str:
    """Name what settings of alike searches share: the search, or the method where a setting is a training."""
    return method if method in TRAINED_METHODS else search


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What everything in a sweep costs.

    Attributes:
        sorts: sort of scenario -> its costs.
        device: where they were measured: "cpu", or the name of a GPU.
        peak_memory: bytes that a worker takes, at most.
        device_memory: bytes of the GPU; None on a CPU.
        steps: (search, method, granularity) -> its mean settings, where earlier runs measured them.
        notes: how they came about: what was assumed or shortened.
    """

    sorts: Mapping[ScenarioSort, SortCosts]
    device: str
    peak_memory: int
    device_memory: int | None = None
    steps: Mapping[tuple[str, str, str], float] | None = None
    notes: tuple[str, ...] = ()

    def of(self, scenario: Scenario) -> SortCosts:
        """Return the costs of a scenario."""
        return self.sorts[ScenarioSort.of(scenario)]

    def sizes(self, settings: HealSettings, forget_count: int, train_count: int) -> Sizes:
        """Return how large a search with these settings is."""
        measured = (self.steps or {}).get((settings.search, settings.method, settings.granularity))
        return Sizes(forget=forget_count, train=train_count, measured=measured)

    def expected_settings(self, settings: HealSettings | TuneSettings) -> int:
        """Count the settings that a search evaluates to its end."""
        if isinstance(settings, TuneSettings):
            return settings.setting_count
        measured = self.sizes(settings, 1, 1).measured
        count: int = SEARCH_ENTRIES[settings.search].expected.count(settings, measured)
        return count


def large_sets(tasks: Sequence[Task], train_count: int) -> tuple[ImportancePart, ...]:
    """List the large sets, and their shards, whose importances the tasks of one scenario need, each once."""
    plan = ScenarioPlan(tasks, reference=False)
    victim = next(step for step in plan.steps if step.what == VICTIM)
    plan.step_done(victim, Answer(train_count=train_count, gate_passed=True))
    return tuple(step.job.part for step in plan.steps if isinstance(step.job, ImportanceJob))
