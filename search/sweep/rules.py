"""Rules of a sweep: which tasks they speak of, and the settings that they give to some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from ...datasets.attacks import Attack
from ...datasets.triggers import is_trigger
from ...errors import BadInput, closest
from ...unlearning.kinds import Granularity
from ..settings import METHODS, SEARCHES, HealSettings, Search
from ..store import row_key
from ..training import TPE_ONLY, TuneSearch, TuneSettings
from .scenario import Cell, Scenario
from .yaml_tree import explained, join

CHOSEN_BY_AXES = {"method": "methods", "granularity": "granularities", "search": "searches"}
SETTINGS = tuple(
    name
    for name in dict.fromkeys([*HealSettings.model_fields, *TuneSettings.model_fields])
    if name not in CHOSEN_BY_AXES
)
"""What `settings` of a sweep may hold: all of both sorts of settings but what has an axis of its own."""
OF_THE_METHOD = ("parameters", "space")
"""Settings that only their method can judge."""


class Task(BaseModel):
    """A cell of a scenario: one row of `searches`.

    Attributes:
        scenario: what determines the victim.
        cell: what is done to it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: Scenario
    cell: Cell

    @property
    def key(self) -> str:
        """Return the key of its row, the same as `Experiment.key` of the cell."""
        return row_key(self.scenario.key, self.cell.model_dump(mode="json"))


AXES: dict[str, Callable[[Task], object]] = {
    "datasets": lambda task: task.scenario.dataset,
    "models": lambda task: task.scenario.model.model_dump(mode="json"),
    "attacks": lambda task: _attack(task.scenario.attack),
    "manipulated": lambda task: task.scenario.manipulated,
    "seeds": lambda task: task.scenario.seed,
    "shares": lambda task: task.cell.share,
    "methods": lambda task: task.cell.method,
    "granularities": lambda task: task.cell.dampening.granularity if task.cell.dampening else None,
    "searches": lambda task: task.cell.search,
}
"""Axis -> what a task has there; None where the axis says nothing about it (baselines)."""


class AttackPattern(BaseModel):
    """What a rule may say of an attack: what `Attack` has, and the name that results call it.

    Attributes:
        name: such as "badnets-all-to-all" or "several".
        trigger: some of its settings.
        target: as the others, see `Attack`.
    """

    name: str
    trigger: dict[str, Any]
    target: int
    drawn_from: str
    label_rule: str


class Match(BaseModel):
    """The tasks that have one of the values on every axis given.

    Baselines have no granularity and no search, methods that train no granularity.

    In a file a single value needs no list. A model or an attack is matched by its name (a trigger's, or that
    of the attack in the results), or by a mapping of the fields that count.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    datasets: tuple[str, ...] = ()
    models: tuple[dict[str, Any], ...] = ()
    attacks: tuple[dict[str, Any], ...] = ()
    manipulated: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()
    shares: tuple[float | str, ...] = ()
    methods: tuple[str, ...] = ()
    granularities: tuple[Granularity, ...] = ()
    searches: tuple[Search | TuneSearch, ...] = ()

    @field_validator("*", mode="before")
    @classmethod
    def _single(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else [value]

    @field_validator("models", "attacks", mode="before")
    @classmethod
    def _by_name(cls, values: Any, info: Any) -> Any:
        values = values if isinstance(values, list | tuple) else [values]
        return [_pattern(value, info.field_name) for value in values]

    @model_validator(mode="after")
    def _something(self) -> Match:
        empty = [name for name in self.model_fields_set if not self.conditions.get(name)]
        if empty or not self.conditions:
            raise ValueError("give at least one axis, and at least one value for it")
        return self

    @property
    def conditions(self) -> dict[str, tuple[Any, ...]]:
        """Return axis -> the values one of which a task must have."""
        return {axis: value for axis, value in self if value}

    def matches(self, task: Task) -> bool:
        """Tell whether the rule speaks of ``task``."""
        return all(
            any(_holds(AXES[axis](task), pattern) for pattern in patterns)
            for axis, patterns in self.conditions.items()
        )

    def check(self, tasks: Iterable[Task], path: str) -> None:
        """Check that every value is some task's, and that all together match one.

        Raises:
            BadInput: names the value that no task has, and those that there are.
        """
        tasks = tuple(tasks)
        for axis, patterns in self.conditions.items():
            found = list({str(value): value for value in map(AXES[axis], tasks)}.values())
            for pattern in patterns:
                if not any(_holds(value, pattern) for value in found):
                    there = ", ".join(str(value) for value in found if value is not None) or "nothing there"
                    raise BadInput(
                        f"{join(path, axis)}: {pattern!r} matches nothing; the sweep has {there}; "
                        f"leave it out or correct it"
                    )
        if not any(self.matches(task) for task in tasks):
            raise BadInput(f"{path}: matches nothing, no task has all of it; leave it out or correct it")

    def narrowed(self, tasks: Iterable[Task]) -> Match | None:
        """Return the rule without the values that no task has; None if nothing matches."""
        tasks = tuple(tasks)
        kept = {
            axis: tuple(p for p in patterns if any(_holds(AXES[axis](task), p) for task in tasks))
            for axis, patterns in self.conditions.items()
        }
        if not all(kept.values()):
            return None
        match = Match(**kept)
        return match if any(match.matches(task) for task in tasks) else None


def _pattern(value: Any, axis: str) -> Any:
    """Return a name as the mapping that it stands for."""
    if axis == "models":
        return {"name": value} if isinstance(value, str) else value
    if isinstance(value, str):
        return {"trigger": {"name": value}} if is_trigger(value) else {"name": value}
    if isinstance(value, Mapping) and isinstance(value.get("trigger"), str):
        return {**value, "trigger": {"name": value["trigger"]}}
    return value


def _attack(attack: Attack) -> dict[str, Any]:
    """Return what an `AttackPattern` is held against."""
    return {
        **attack.model_dump(mode="json", exclude={"several"}),
        "label_rule": attack.label_rule,
        "name": attack.name,
    }


def _holds(value: object, pattern: object) -> bool:
    if isinstance(value, Mapping) and isinstance(pattern, Mapping):
        return all(key in value and _holds(value[key], part) for key, part in pattern.items())
    return value == pattern


def check_settings(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return ``given`` as JSON has it, every value validated as `HealSettings` or `TuneSettings` does.

    What `OF_THE_METHOD` names is validated when the cells are made.

    Raises:
        BadInput: an unknown setting, one that has an axis of its own, or a value out of bounds.
    """
    for name in given:
        if name in CHOSEN_BY_AXES:
            raise BadInput(
                f"{join(path, name)}: this is an axis of the sweep; list it in {CHOSEN_BY_AXES[name]}"
            )
        if name not in SETTINGS:
            raise BadInput(
                f"unknown key {join(path, name)!r}; the valid ones in {path} are {', '.join(SETTINGS)}"
                f"{closest(name, SETTINGS)}"
            )
    checked = {name: given[name] for name in given if name in OF_THE_METHOD}
    for method, search in (*(("xlf", search) for search in SEARCHES), ("cf", "tpe")):
        own = used_by(method, search, {name: given[name] for name in given if name not in OF_THE_METHOD})
        try:
            values = settings_of(method, search, own).model_dump(mode="json")
        except ValidationError as error:
            raise BadInput(str(explained(error, "", own, path)).removeprefix(": ")) from error
        checked |= {name: values[name] for name in own}
    return {name: checked[name] for name in given}


def settings_of(method: str, search: str, values: Mapping[str, Any]) -> HealSettings | TuneSettings:
    """Return the settings of a method with this search."""
    kind = HealSettings if method in METHODS else TuneSettings
    return kind.model_validate({**values, "method": method, "search": search})


def used_by(method: str, search: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``settings`` that a method with this search has: their own, and what all have."""
    if method in METHODS:
        fields = set(HealSettings.model_fields)
        foreign = {name for own in SEARCHES.values() for name in own} - set(SEARCHES[search])
    else:
        fields, foreign = set(TuneSettings.model_fields), set(TPE_ONLY if search == "fixed" else ())
    return {name: value for name, value in settings.items() if name in fields - foreign}


class SettingsFor(BaseModel):
    """Settings for some tasks, on top of those for all.

    Attributes:
        when: which tasks.
        set: fields of `HealSettings` or `TuneSettings`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: Match
    set: dict[str, Any]
