"""Sweeps: one description, and every cell of every scenario that follows from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ...datasets.own_code import is_own
from ...datasets.poisoning import Attack, Share
from ...datasets.sources import DATASETS
from ...errors import BadInput, closest
from ...unlearning.kinds import Granularity
from ...unlearning.models import MODELS, ModelSpec
from ..methods import BASELINES, METHOD_ENTRIES
from ..settings import METHODS, SEARCHES, HealSettings, Search
from ..store import row_key
from ..training import TUNE_SEARCHES, TuneSearch, TuneSettings
from .rules import Match, SettingsFor, Task, check_settings, settings_of, used_by
from .scenario import SEEDS, Cell, Scenario, Scoring
from .yaml_tree import explained, leaves

# a type checker sees texts, whoever reads the annotation while theriac runs sees the choices
if TYPE_CHECKING:
    AnyMethod = str
else:
    AnyMethod = Literal[tuple(METHOD_ENTRIES)]
SHARES: tuple[Share, ...] = ("one_shot", 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""The paper's: one sample, and 10 to 100 % of S_m."""
MOST_VALUES = 2000
"""Most values of an axis, and most rules of a sort."""
MOST_TASKS = 20_000
"""Most tasks of a sweep, before any is excluded; all are held in memory, and each takes seconds at least."""
MOST_RULED = 1_000_000
"""Most tasks times rules (``exclude``, ``settings_for``), each of which is held against each task."""

SCENARIO_AXES = ("datasets", "models", "attacks", "manipulated", "seeds")
CELL_AXES = ("shares", "methods", "granularities", "searches", "settings")


class Sweep(BaseModel):
    """The cross product of its axes, without what is excluded.

    Attributes:
        name: what it is called.
        about: one line on what it is for.
        scenario: what all its scenarios share; an axis below takes the place of the field it is named for.
        datasets: names of `theriac.datasets.sources.DATASETS`; None, here and below: the scenario's alone.
        models: architectures.
        attacks: attacks.
        manipulated: |S_m|.
        seeds: seeds of the scenario.
        shares: discovery shares.
        methods: "none" and "eu" are baselines: once per share, whatever the axes below. The victim as it is
            ("none") is the same at every share, but tables show it beside the others, and it costs nothing.
        granularities: of the dampening methods.
        searches: a method takes those that it has (methods that dampen those of `SEARCH_ENTRIES`, those that
            train "tpe" and "fixed"), and the first of these if it has none of the list. The published grid is
            SSD's, so exclude the others with it.
        settings: alternatives, each a mapping of further fields of `HealSettings` (methods that dampen) and
            `TuneSettings` (methods that train). A field that only one sort of method or one search has goes
            to that alone; cells that are equal then come once.
        settings_for: settings for some tasks, on top of ``settings``; the later ones win.
        exclude: a task that one of these matches is left out.
        scoring: what is measured of every cell.

    Raises:
        ValidationError: values out of bounds, an axis that is empty or has a value twice, unknown datasets or
            models, rules that match nothing, settings that nothing uses, or no task at all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    about: str = ""
    scenario: Scenario
    datasets: tuple[str, ...] | None = None
    models: tuple[ModelSpec, ...] | None = None
    attacks: tuple[Attack, ...] | None = None
    manipulated: tuple[Annotated[int, Field(ge=1, lt=2**63)], ...] | None = None
    seeds: tuple[Annotated[int, Field(ge=0, lt=SEEDS)], ...] | None = None
    shares: tuple[Share, ...] = SHARES
    methods: tuple[AnyMethod, ...] = ("none", *METHODS)
    granularities: tuple[Granularity, ...] = ("sample",)
    searches: tuple[Search | TuneSearch, ...] = ("ptn",)
    settings: tuple[dict[str, Any], ...] = ({},)
    settings_for: tuple[SettingsFor, ...] = ()
    exclude: tuple[Match, ...] = ()
    scoring: Scoring = Scoring(steps=0, reference=True)

    @field_validator(*SCENARIO_AXES, *CELL_AXES, "exclude", "settings_for", mode="before")
    @classmethod
    def _is_list(cls, value: Any) -> Any:
        if value is not None and not isinstance(value, list | tuple):
            raise ValueError("give a list, such as [a, b]")
        if value is not None and len(value) > MOST_VALUES:
            raise ValueError(
                f"{len(value)} values; give at most {MOST_VALUES}, and the others in another sweep"
            )
        return value

    @field_validator(*SCENARIO_AXES, *CELL_AXES)
    @classmethod
    def _distinct(cls, values: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        if values is not None and not values:
            raise ValueError("the list is empty; give at least one value, or leave the axis out")
        seen = set()
        for value in values or ():
            shown = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            known = str(shown) if isinstance(shown, dict | list) else shown
            if known in seen:
                raise ValueError(f"{shown!r} is there twice; give every value once")
            seen.add(known)
        return values

    @field_validator("settings")
    @classmethod
    def _checked(cls, values: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        paths = ["settings"] if len(values) == 1 else [f"settings.{n}" for n in range(len(values))]
        return tuple(check_settings(one, path) for one, path in zip(values, paths, strict=True))

    @field_validator("settings_for")
    @classmethod
    def _checked_for(cls, rules: tuple[SettingsFor, ...]) -> tuple[SettingsFor, ...]:
        return tuple(
            SettingsFor(when=rule.when, set=check_settings(rule.set, f"settings_for.{number}.set"))
            for number, rule in enumerate(rules)
        )

    @model_validator(mode="after")
    def _makes_sense(self) -> Sweep:
        for number, name in enumerate(self.datasets or (self.scenario.dataset,)):
            _check_dataset(name, f"datasets.{number}" if self.datasets else "scenario.dataset")
        for number, model in enumerate(self.models or (self.scenario.model,)):
            _check_model(model.name, f"models.{number}" if self.models else "scenario.model.name")
        self._check_size()
        drafts = self.drafts()
        for number, rule in enumerate(self.exclude):
            rule.check(drafts, f"exclude.{number}")
        if not self.tasks():
            raise BadInput("exclude: every task is excluded; leave some")
        with_settings = [task for task in self._included() if task.cell.settings]
        for number, extra in enumerate(self.settings_for):
            extra.when.check(with_settings, f"settings_for.{number}.when")
        self._check_settings_used(with_settings)
        for task in self.tasks():
            _check_held_back(task)
            _check_numbers(task)
        return self

    def _check_size(self) -> None:
        """Check the size before anything is made of the cross product."""
        cells = len(self.shares) * len(self.methods) * len(self.granularities) * len(self.searches)
        scenarios = math.prod(len(getattr(self, axis) or (None,)) for axis in SCENARIO_AXES)
        size, rules = scenarios * cells * len(self.settings), len(self.exclude) + len(self.settings_for)
        if size > MOST_TASKS or size * rules > MOST_RULED:
            raise BadInput(
                f"the axes make up to {size} tasks{f' under {rules} rules' if rules else ''}; at most "
                f"{MOST_TASKS} fit into one sweep, and {MOST_RULED} tasks times rules; make several "
                f"sweeps of it, which may share a results folder"
            )

    def _check_settings_used(self, tasks: list[Task]) -> None:
        paths = (
            ["settings"] if len(self.settings) == 1 else [f"settings.{n}" for n in range(len(self.settings))]
        )
        for path, settings in zip(paths, self.settings, strict=True):
            _check_used(settings, tasks, path)
        for number, extra in enumerate(self.settings_for):
            _check_used(extra.set, filter(extra.when.matches, tasks), f"settings_for.{number}.set")

    def tasks(self) -> tuple[Task, ...]:
        """Return every task once, scenario by scenario.

        The order is that of nested loops over the axes as they are listed: datasets, models, attacks,
        manipulated, seeds; and within a scenario: shares, methods, granularities, searches, settings.
        """
        return tuple(dict.fromkeys(task for one in self._included() for task in self._with_settings(one)))

    @property
    def key(self) -> str:
        """Hash the tasks and the scoring; two files that ask for the same work have the same hash."""
        return row_key(
            [task.model_dump(mode="json") for task in self.tasks()], self.scoring.model_dump(mode="json")
        )

    def _included(self) -> tuple[Task, ...]:
        return tuple(d for d in self.drafts() if not any(rule.matches(d) for rule in self.exclude))

    def drafts(self) -> tuple[Task, ...]:
        """Return the whole cross product: nothing excluded, methods without further settings."""
        cells = tuple(self._draft_cells())
        return tuple(Task(scenario=one, cell=cell) for one in self.scenarios() for cell in cells)

    def scenarios(self) -> Iterator[Scenario]:
        """Yield every scenario of the cross product."""
        base = self.scenario
        for dataset in self.datasets or (base.dataset,):
            for model in self.models or (base.model,):
                for attack in self.attacks or (base.attack,):
                    for manipulated in self.manipulated or (base.manipulated,):
                        for seed in self.seeds or (base.seed,):
                            yield base.model_copy(
                                update={
                                    "dataset": dataset,
                                    "model": model,
                                    "attack": attack,
                                    "manipulated": manipulated,
                                    "seed": seed,
                                }
                            )

    def _draft_cells(self) -> Iterator[Cell]:
        for share in self.shares:
            for method in self.methods:
                if method in BASELINES:
                    yield Cell(share=share, baseline=method)
                    continue
                for settings in self._draft_settings(method):
                    yield Cell(share=share, settings=settings)

    def _draft_settings(self, method: str) -> Iterator[HealSettings | TuneSettings]:
        own = tuple(SEARCHES) if method in METHODS else tuple(TUNE_SEARCHES)
        searches = tuple(search for search in self.searches if search in own) or own[:1]
        if method not in METHODS:
            yield from (settings_of(method, search, {}) for search in searches)
            return
        for granularity in self.granularities:
            yield from (settings_of(method, search, {"granularity": granularity}) for search in searches)

    def _with_settings(self, draft: Task) -> Iterator[Task]:
        chosen = draft.cell.settings
        if chosen is None:
            yield draft
            return
        extra: dict[str, Any] = {}
        for rule in self.settings_for:
            extra |= rule.set if rule.when.matches(draft) else {}
        axis = {"granularity": chosen.granularity} if isinstance(chosen, HealSettings) else {}
        for settings in self.settings:
            values = used_by(chosen.method, chosen.search, {**settings, **extra})
            cell = Cell(share=draft.cell.share, settings=_settings(chosen, {**values, **axis}))
            yield Task(scenario=draft.scenario, cell=cell)


def _settings(chosen: HealSettings | TuneSettings, values: dict[str, Any]) -> HealSettings | TuneSettings:
    """Return the settings with these values; only the method can judge some, so they may be wrong."""
    try:
        return settings_of(chosen.method, chosen.search, values)
    except ValidationError as error:
        raise BadInput(str(explained(error, "", values, "settings")).removeprefix(": ")) from error


def _check_held_back(task: Task) -> None:
    """Check that what a method is given, or an oracle looks at, is held back."""
    tuning, held_back = task.cell.tuning, task.scenario.held_back
    if tuning and tuning.needs_clean and not held_back.clean:
        raise BadInput(
            f"the method {tuning.method} needs images known to be clean, and the scenario holds none back; "
            f"set scenario.held_back.clean, such as 5000 of 10000 test images, or leave the method out"
        )
    if tuning and tuning.uses_oracle and not held_back.selection:
        raise BadInput(
            "the objective 'oracle' looks at test images that are not reported on, and the scenario holds "
            "none back; set scenario.held_back.selection, or choose the objective 'deployable'"
        )


def _check_numbers(task: Task) -> None:
    """Check numbers before any training: results hold whole ones of 64 bits, and keys finite ones."""
    for path, value in leaves(task.model_dump(mode="json")):
        name = path.removeprefix("cell.")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise BadInput(f"{name} = {value}: results hold whole numbers below 2^63; give a smaller one")
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"{name} = {value}: give a finite number")


def _check_dataset(name: str, path: str) -> None:
    if name not in DATASETS and not is_own(name, "datasets"):
        raise BadInput(
            f"{path} = {name!r}: unknown dataset; choose one of {', '.join(DATASETS)}"
            f"{closest(name, DATASETS)}"
        )


def _check_model(name: str, path: str) -> None:
    if name in MODELS or is_own(name, "models"):
        return
    import timm  # here, because it takes a second to import

    if not timm.is_model(name):
        raise BadInput(
            f"{path} = {name!r}: unknown model; choose {', '.join(MODELS)} or one of timm.list_models()"
            f"{closest(name, [*MODELS, *timm.list_models()])}"
        )


def _check_used(settings: Mapping[str, Any], tasks: Any, path: str) -> None:
    pairs = {(task.cell.method, task.cell.search) for task in tasks}
    searches = {search for _, search in pairs}
    for name in settings:
        if not any(name in used_by(method, search, settings) for method, search in pairs):
            raise BadInput(
                f"{path}.{name}: no task uses it (searches: {', '.join(sorted(searches)) or 'none'}); "
                f"leave it out, or add the search that has it"
            )
