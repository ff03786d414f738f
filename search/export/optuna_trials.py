"""The settings that a search evaluated, as Optuna's trials."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import optuna
from pydantic import BaseModel, ValidationError

from ...rows import Row
from ..settings import HealSettings
from ..training import SELECTION_CLEAN, SELECTION_HEALED, Choice, Range, TuneSettings, parts

TRUTH = "truth: "
"""What attributes are called that were measured on held-out truth, which the search did not see."""
SEEN = (
    *("status", "error_message", "forget_accuracy", "agreement", "other_accuracy"),
    *("held_out_accuracy", "dampened", "dampening_constant", "pareto"),
)
"""What attributes repeat of a step; each costs Optuna's storage milliseconds, so nothing is said twice."""
UNSEEN = ("clean_accuracy", "healed_raw", "asr", "lfr")
SELECTION = (SELECTION_CLEAN, SELECTION_HEALED)
"""Truth on images that are set aside: oracles see it, the others do not."""
PAIR_DIGITS = 12
"""Significant digits of lambda / alpha, which was multiplied and is divided again."""
LONGEST_SECONDS = 1e9

Dimension = Range | Choice
Distribution = optuna.distributions.BaseDistribution


class Trials(Protocol):
    """What Optuna must know of the settings of one search.

    Attributes:
        objectives: the names of what the search maximised.
        space: where it looked for each parameter; those that are missing are derived from the values.
    """

    objectives: tuple[str, ...]
    space: Mapping[str, Dimension]

    def parameters(self, step: Row) -> dict[str, Any]:
        """Return what was searched."""
        ...

    def given(self, step: Row) -> dict[str, Any]:
        """Return parameters that were not searched."""
        ...

    def values(self, step: Row) -> Sequence[float | None]:
        """Return what the search maximised."""
        ...


class TrainedTrials:
    """Settings of a method that trains.

    Args:
        search: the row of ``searches``.
    """

    def __init__(self, search: Row) -> None:
        self._settings = _settings(TuneSettings, search)
        self._before = search["forget_accuracy_before"]
        self.space: Mapping[str, Dimension] = self._settings.searched if self._settings else {}
        self._pareto = self._settings is not None and self._settings.pareto and self._before is not None
        self.objectives = ("score",) if not self._pareto else _part_names(search)

    def parameters(self, step: Row) -> dict[str, Any]:
        found = json.loads(step["parameters"])
        return {name: value for name, value in found.items() if not self._settings or name in self.space}

    def given(self, step: Row) -> dict[str, Any]:
        found = json.loads(step["parameters"])
        return {name: value for name, value in found.items() if self._settings and name not in self.space}

    def values(self, step: Row) -> Sequence[float | None]:
        if not self._pareto or step["score"] is None or self._settings is None:
            return [step["score"]]
        return parts(self._settings, step, self._before) or [None]


class PairTrials:
    """Pairs of alpha and lambda; lambda is searched as a multiple of alpha.

    Args:
        search: the row of ``searches``.
    """

    objectives: tuple[str, ...] = ("score",)

    def __init__(self, search: Row) -> None:
        settings = _settings(HealSettings, search)
        sampled = search["search"] == "tpe"
        self.space: Mapping[str, Dimension] = {}
        if settings is not None:
            alphas = settings.alpha_range if sampled else settings.alphas
            multiples = settings.relative_lambda_range if sampled else settings.relative_lambdas
            sides = {"alpha": alphas, "relative_lambda": multiples}
            self.space = {name: _range(side) for name, side in sides.items() if min(side) < max(side)}

    def parameters(self, step: Row) -> dict[str, Any]:
        alpha, product = step["alpha"], step["dampening_constant"]
        multiple = float(f"{product / alpha:.{PAIR_DIGITS}g}")
        found = self.space.get("relative_lambda")
        if isinstance(found, Range) and math.isclose(multiple, min(max(multiple, found.low), found.high)):
            multiple = min(max(multiple, found.low), found.high)
        return {"alpha": alpha, "relative_lambda": multiple}

    def given(self, step: Row) -> dict[str, Any]:
        return {}

    def values(self, step: Row) -> Sequence[float | None]:
        return [step["score"]]


def is_trial(step: Row) -> bool:
    """Tell whether a row of ``steps`` is a trial: hyperparameters, or a pair that was scored."""
    if step["parameters"] is not None:
        return True
    return bool(step["alpha"]) and step["dampening_constant"] is not None and step["score"] is not None


def trials_of(search: Row, steps: Sequence[Row]) -> tuple[Trials, list[optuna.trial.FrozenTrial]]:
    """Return the settings of a search as Optuna's trials, in order.

    A run that failed is FAIL. A model that collapsed is PRUNED: it keeps its value, which the sampler saw,
    but the search does not take it. All others are COMPLETE. A trial ends when its row was written, and lasts
    as long as was measured.

    Args:
        search: a row of ``searches``.
        steps: its rows of ``steps``, at least one, in order, all of them trials.
    """
    kind: Trials = TrainedTrials(search) if steps[0]["parameters"] is not None else PairTrials(search)
    drawn = [{name: _plain(value) for name, value in kind.parameters(step).items()} for step in steps]
    names = dict.fromkeys(name for one in drawn for name in one)
    space = {
        name: _distribution(kind.space.get(name), [one[name] for one in drawn if name in one])
        for name in names
    }
    return kind, [_trial(search, step, kind, one, space) for step, one in zip(steps, drawn, strict=True)]


def _trial(
    search: Row, step: Row, kind: Trials, drawn: Mapping[str, Any], space: Mapping[str, Distribution]
) -> optuna.trial.FrozenTrial:
    values = [one for one in kind.values(step) if one is not None and not math.isnan(one)]
    sound = len(values) == len(kind.objectives) and step["status"] != "failed"
    state = optuna.trial.TrialState
    ended = state.PRUNED if step["status"] == "collapsed" else state.COMPLETE
    trial = optuna.trial.create_trial(
        state=ended if sound else state.FAIL,
        values=values if sound else None,
        params=dict(drawn),
        distributions={name: space[name] for name in drawn},
        user_attrs=_attributes(search, step, kind.given(step)),
    )
    end = step["written_at"].astimezone().replace(tzinfo=None)  # Optuna's times are local
    trial.datetime_complete, trial.datetime_start = end, end - _lasted(step["seconds"])
    return trial


def _attributes(search: Row, step: Row, given: Mapping[str, Any]) -> dict[str, Any]:
    seen = [*SEEN, *(SELECTION if search["uses_oracle"] else ())]
    unseen = [*UNSEEN, *(() if search["uses_oracle"] else SELECTION)]
    found = {name: step[name] for name in seen if step[name] is not None}
    found |= {f"{TRUTH}{name}": step[name] for name in unseen if step[name] is not None}
    found |= {"taken": True} if _is_taken(search, step) else {}
    return {**found, **({"not searched": dict(given)} if given else {})}


def _is_taken(search: Row, step: Row) -> bool:
    """Tell whether the search took this setting in the end."""
    if step["parameters"] is not None:
        return bool(step["parameters"] == search["parameters"])
    pair = ("alpha", "dampening_constant")
    return all(step[name] == search[name] for name in pair)


def _lasted(seconds: float | None) -> timedelta:
    known = seconds is not None and 0 <= seconds <= LONGEST_SECONDS
    return timedelta(seconds=seconds if known and seconds else 0)


def _part_names(search: Row) -> tuple[str, ...]:
    if search["uses_oracle"]:
        return SELECTION_HEALED, SELECTION_CLEAN
    return "minus distance of forget accuracy from its aim", "minus disagreement with the victim"


def _distribution(asked: Dimension | None, values: Sequence[Any]) -> Distribution:
    """Return where a parameter was looked for, or where its values lie if that is not known."""
    if asked is not None and all(_holds(asked, value) for value in values):
        return asked.distribution()
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        whole = all(isinstance(value, int) for value in values)
        kind = optuna.distributions.IntDistribution if whole else optuna.distributions.FloatDistribution
        return kind(min(values), max(values))
    return optuna.distributions.CategoricalDistribution(tuple(dict.fromkeys(values)))


def _holds(dimension: Dimension, value: Any) -> bool:
    if isinstance(dimension, Range) and isinstance(dimension.low, int) and isinstance(dimension.high, int):
        return isinstance(value, int) and dimension.holds(value)
    return dimension.holds(value)


def _plain(value: Any) -> Any:
    """Return a value that Optuna can hold: a list is its JSON."""
    scalar = value is None or isinstance(value, bool | int | float | str)
    return value if scalar else json.dumps(value)


def _range(side: Sequence[float]) -> Range:
    return Range(low=min(side), high=max(side), log=True)


def _settings(kind: type[BaseModel], search: Row) -> Any:
    """Return the settings of a search; None for those of a version that had others."""
    try:
        return kind.model_validate_json(search["settings"] or "")
    except (ValidationError, ValueError):
        return None
