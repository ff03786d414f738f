"""Which tasks of a sweep a rule speaks of, and settings for some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from ..errors import BadInput
from ..unlearning.kinds import Granularity
from .provenance import row_key
from .scenarios import Cell, Scenario
from .settings import SEARCHES, HealSettings, Search
from .sweep_tree import closest, explained, join

CHOSEN_BY_AXES = {"method": "methods", "granularity": "granularities", "search": "searches"}
SETTINGS = tuple(name for name in HealSettings.model_fields if name not in CHOSEN_BY_AXES)
"""What `settings` of a sweep may hold: all of `HealSettings` but what has an axis of its own."""


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
        """Key of its row, the same as `Experiment.key` of the cell."""
        return row_key(self.scenario.key, self.cell.model_dump(mode="json"))


AXES: dict[str, Callable[[Task], object]] = {
    "datasets": lambda task: task.scenario.dataset,
    "models": lambda task: task.scenario.model.model_dump(mode="json"),
    "attacks": lambda task: task.scenario.attack.model_dump(mode="json"),
    "manipulated": lambda task: task.scenario.manipulated,
    "seeds": lambda task: task.scenario.seed,
    "shares": lambda task: task.cell.share,
    "methods": lambda task: task.cell.method,
    "granularities": lambda task: task.cell.settings.granularity if task.cell.settings else None,
    "searches": lambda task: task.cell.search,
}
"""Axis -> what a task has there; None where the axis says nothing about it (baselines)."""


class Match(BaseModel):
    """The tasks that have one of the values on every axis given; baselines have no granularity and no search.

    In a file a single value needs no list. A model or an attack is matched by its name (a trigger's), or by
    a mapping of the fields that count.
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
    searches: tuple[Search, ...] = ()

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
        """Axis -> the values one of which a task must have."""
        return {axis: value for axis, value in self if value}

    def matches(self, task: Task) -> bool:
        """Whether the rule speaks of ``task``."""
        return all(
            any(_holds(AXES[axis](task), pattern) for pattern in patterns)
            for axis, patterns in self.conditions.items()
        )

    def check(self, tasks: Iterable[Task], path: str) -> None:
        """Every value must be some task's, and all together must match one.

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
        """Without the values that no task has; None if nothing matches."""
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
    """A name as the mapping that it stands for."""
    if axis == "models":
        return {"name": value} if isinstance(value, str) else value
    if isinstance(value, str):
        return {"trigger": {"name": value}}
    if isinstance(value, Mapping) and isinstance(value.get("trigger"), str):
        return {**value, "trigger": {"name": value["trigger"]}}
    return value


def _holds(value: object, pattern: object) -> bool:
    if isinstance(value, Mapping) and isinstance(pattern, Mapping):
        return all(key in value and _holds(value[key], part) for key, part in pattern.items())
    return value == pattern


def check_settings(given: Mapping[str, Any], path: str) -> dict[str, Any]:
    """``given`` as JSON has it, every value validated as `HealSettings` does.

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
    checked: dict[str, Any] = {}
    for search in SEARCHES:
        own = used_by(search, given)
        try:
            values = HealSettings.model_validate({**own, "search": search}).model_dump(mode="json")
        except ValidationError as error:
            raise BadInput(str(explained(error, "", own, path)).removeprefix(": ")) from error
        checked |= {name: values[name] for name in own}
    return {name: checked[name] for name in given}


def used_by(search: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``settings`` that a search has: its own, and what all have."""
    foreign = {name for own in SEARCHES.values() for name in own} - set(SEARCHES[search])
    return {name: value for name, value in settings.items() if name not in foreign}


class SettingsFor(BaseModel):
    """Settings for some tasks, on top of those for all.

    Attributes:
        when: which tasks.
        set: fields of `HealSettings`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    when: Match
    set: dict[str, Any]
