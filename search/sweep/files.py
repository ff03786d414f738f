"""Sweep files: YAML to a validated `Sweep` and back, and the presets that come with theriac."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ...datasets.attacks import Aim, Attack
from ...datasets.file_checks import expanded, read_text
from ...datasets.splits import HeldBack
from ...datasets.triggers import TRIGGERS, is_trigger
from ...errors import BadInput, closest, printable, shortened
from ...unlearning.models import ModelSpec
from ...unlearning.training import Recipe
from .rules import AttackPattern, Match, SettingsFor, Task
from .scenario import PRESETS, Gate, Scenario, Scoring
from .spec import Sweep
from .yaml_numbers import Dumper
from .yaml_tree import (
    MOST_CHARACTERS,
    Tree,
    explained,
    join,
    leaves,
    merge,
    override,
    read_yaml,
    refuse_unknown_keys,
)

__all__ = ["Sweep", "Task", "dump_sweep", "load_sweep", "preset_names", "sweep_presets"]

SUFFIXES = (".yaml", ".yml")
RULES = ("exclude", "settings_for")
LINE = 110

INSIDE: dict[type[BaseModel], dict[str, type[BaseModel]]] = {
    Sweep: {
        "scenario": Scenario,
        "models": ModelSpec,
        "attacks": Attack,
        "settings_for": SettingsFor,
        "exclude": Match,
        "scoring": Scoring,
    },
    Scenario: {
        "model": ModelSpec,
        "attack": Attack,
        "recipe": Recipe,
        "held_back": HeldBack,
        "gate": Gate,
    },
    SettingsFor: {"when": Match},
    Attack: {"several": Aim},
    Match: {"models": ModelSpec, "attacks": AttackPattern},
}
"""What kind of mapping, or list of mappings, stands under which key."""


def load_sweep(name_or_path: str | Path, overrides: Sequence[str] = ()) -> Sweep:
    """Load a sweep from a preset or a file, which must be valid without the overrides, too.

    ``scenario`` is a scenario preset's name or a mapping, whose ``preset`` is then the base of the others. A
    model or an attack in a list takes what it leaves out from the scenario's, unless its name (its trigger's)
    is another. What ``exclude`` and ``settings_for`` say about values that only the overrides took away is
    dropped; everything else in them must match something.

    Args:
        name_or_path: a preset's name, or a path: anything with a slash or ending in .yaml or .yml.
        overrides: ``key=value`` each, with a dotted key and a YAML value: ``scenario.recipe.iterations=500``.

    Raises:
        BadInput: no such file or preset, bad YAML, an unknown key (the valid ones are listed), a value out of
            bounds, a rule that matches nothing, or a sweep without tasks.

    Example:
        >>> from theriac.search.sweep import load_sweep
        >>> load_sweep("quickstart", ["seeds=[0, 1]"]).seeds
        (0, 1)
    """
    origin, text, name = _source(name_or_path)
    tree = {"name": name, **_tree(text, origin)}
    sweep = _sweep(tree, origin)
    return _overridden(sweep, tree, overrides, origin) if overrides else sweep


def read_sweep(text: str, origin: str) -> Sweep:
    """Read a sweep from YAML, as `dump_sweep` writes it; raises as `load_sweep` does.

    Args:
        text: with the name of the sweep.
        origin: where the text is from, for messages.
    """
    return _sweep(_tree(text, origin), origin)


def _tree(text: str, origin: str) -> Tree:
    tree = read_yaml(text, origin)
    if not isinstance(tree, Mapping):
        raise BadInput(
            f"{origin}: a sweep is a mapping, not {shortened(tree)}; write one that begins with scenario: "
            f"and axes such as shares:"
        )
    return dict(tree)


def preset_names() -> tuple[str, ...]:
    """Return the names of the sweeps that come with theriac, without reading them."""
    return tuple(_preset_texts())


def sweep_presets() -> dict[str, str]:
    """Return name -> about, of the sweeps that come with theriac."""
    return {name: str(_tree(text, name).get("about", "")) for name, text in _preset_texts().items()}


def dump_sweep(sweep: Sweep) -> str:
    """Write YAML that `load_sweep` reads back to an equal sweep; nothing in it depends on a preset."""
    tree = sweep.model_dump(mode="json", exclude_none=True)
    tree["scenario"] = sweep.scenario.model_dump(mode="json")
    tree["exclude"] = [_plain(rule) for rule in sweep.exclude]
    for shown, rule in zip(tree["settings_for"], sweep.settings_for, strict=True):
        shown["when"] = _plain(rule.when)
    write: Any = partial(yaml.dump, tree, Dumper=Dumper, sort_keys=False, width=LINE)
    text: str = write(allow_unicode=True)
    if "".join(map(printable, text.split("\n"))) == text.replace("\n", ""):
        return text
    return yaml.dump(
        tree, Dumper=Dumper, sort_keys=False, width=LINE
    )  # no terminal gets what turns its text around


def _preset_texts() -> dict[str, str]:
    folder = files(__package__).joinpath("presets")
    found = {entry.name: entry for entry in folder.iterdir() if entry.name.endswith(".yaml")}
    return {
        name.removesuffix(".yaml").replace("_", "-"): found[name].read_text(encoding="utf-8")
        for name in sorted(found, key=_natural)
    }


def _natural(name: str) -> list[tuple[str, int]]:
    """Order names by the numbers in them: table 2 before table 10."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", name)]


def _source(given: str | Path) -> tuple[str, str, str]:
    """Return where a sweep is from, its text, and the name that it has unless it says another."""
    presets = _preset_texts()
    text = str(given)
    if not ("/" in text or isinstance(given, Path) or text.endswith(SUFFIXES)):
        if text not in presets:
            raise BadInput(
                f"unknown sweep preset {text!r}; choose one of {', '.join(presets)}, or "
                f"give the path of a .yaml file{closest(text, presets)}"
            )
        return f"preset {text}", presets[text], text
    path, remedy = expanded(given), f"give the path of a YAML file, or a preset: {', '.join(presets)}"
    content = read_text(path, "sweep file", remedy=remedy, most_bytes=4 * MOST_CHARACTERS)
    return text, content, path.stem


def _overridden(sweep: Sweep, tree: Tree, overrides: Sequence[str], origin: str) -> Sweep:
    """Apply the overrides; rules of the file are narrowed to what is left to match."""
    changed = override(tree, overrides)
    kept = [rule for rule in RULES if rule in tree and changed[rule] == tree[rule]]
    if "exclude" in kept:
        drafts = _sweep(changed, origin, without=RULES).drafts()
        left = [rule.narrowed(drafts) for rule in sweep.exclude]
        changed["exclude"] = [_plain(rule) for rule in left if rule]
    if "settings_for" in kept:
        bare = _sweep(changed, origin, without=("settings_for",))
        tasks = [task for task in bare.tasks() if task.cell.settings]
        pairs = [(rule.when.narrowed(tasks), rule.set) for rule in sweep.settings_for]
        changed["settings_for"] = [{"when": _plain(when), "set": extra} for when, extra in pairs if when]
    return _sweep(changed, origin)


def _plain(rule: Match) -> Tree:
    return rule.model_dump(mode="json", exclude_defaults=True)


def _sweep(tree: Tree, origin: str, without: Sequence[str] = ()) -> Sweep:
    resolved = _resolved({key: value for key, value in tree.items() if key not in without}, origin)
    _check_keys(resolved, Sweep, "", origin)
    for path, value in leaves(resolved):
        if isinstance(value, bool) and not _may_be_true(path):
            raise BadInput(f"{origin}: {path} = {value}: give a number or a name, not true or false")
    try:
        return Sweep.model_validate(resolved)
    except ValidationError as error:
        raise explained(error, origin, resolved) from error


def _may_be_true(path: str) -> bool:
    """Tell whether a value may be true; elsewhere pydantic would take true for 1."""
    own = (".parameters.", ".choices.")
    return path.endswith(("scoring.reference", ".pareto", ".log")) or any(part in path for part in own)


def _resolved(tree: Tree, origin: str) -> Tree:
    """Fill in the scenario's preset and defaults, and every name as the mapping it stands for."""
    scenario = _scenario(tree, origin)
    resolved = {**tree, "scenario": scenario}
    for axis, field, expand in (("models", "model", _model), ("attacks", "attack", _attack)):
        if isinstance(tree.get(axis), list):
            base = scenario.get(field)
            resolved[axis] = [
                merge(*_inherited(base, expand(one, f"{axis}.{n}", origin)))
                for n, one in enumerate(tree[axis])
            ]
    if isinstance(tree.get("settings"), Mapping):
        resolved["settings"] = [tree["settings"]]
    if isinstance(tree.get("scoring"), Mapping):
        resolved["scoring"] = {"steps": 0, **tree["scoring"]}
    return resolved


def _scenario(tree: Tree, origin: str) -> Tree:
    given = tree.get("scenario")
    given = {"preset": given} if isinstance(given, str) else given
    if not isinstance(given, Mapping):
        raise BadInput(
            f"{origin}: scenario = {given!r}: give the name of a scenario preset ({', '.join(PRESETS)}) "
            f"or a mapping"
        )
    given = dict(given)
    base = _preset(given.pop("preset"), origin) if "preset" in given else _without_preset(tree)
    for field, expand in (("model", _model), ("attack", _attack)):
        if field in given:
            expanded = expand(given[field], f"scenario.{field}", origin)
            base[field], given[field] = _inherited(base.get(field), expanded)
    merged: Tree = merge(base, given)
    return merged


def _preset(name: Any, origin: str) -> Tree:
    if name not in list(PRESETS):
        raise BadInput(
            f"{origin}: unknown scenario preset {name!r}; choose one of {', '.join(PRESETS)}"
            f"{closest(name, PRESETS)}"
        )
    return PRESETS[name].model_dump(mode="json")


def _without_preset(tree: Tree) -> Tree:
    """Return the defaults; what has none may stand in its axis alone."""
    base: Tree = {"model": ModelSpec().model_dump(mode="json"), "attack": Attack().model_dump(mode="json")}
    for axis, field in (("datasets", "dataset"), ("manipulated", "manipulated")):
        if isinstance(tree.get(axis), list) and tree[axis]:
            base[field] = tree[axis][0]
    return base


def _model(given: Any, path: str, origin: str) -> Any:
    return {"name": given} if isinstance(given, str) else given


def _attack(given: Any, path: str, origin: str) -> Any:
    given = {"trigger": given} if isinstance(given, str) else given
    if isinstance(given, Mapping) and isinstance(given.get("several"), list):
        parts = enumerate(given["several"])
        return {**given, "several": [_attack(one, f"{path}.several.{n}", origin) for n, one in parts]}
    if not isinstance(given, Mapping) or "trigger" not in given:
        return given
    trigger = given["trigger"]
    trigger = {"name": trigger} if isinstance(trigger, str) else trigger
    if isinstance(trigger, Mapping) and "name" in trigger and not is_trigger(trigger["name"]):
        name = trigger["name"]
        raise BadInput(
            f"{origin}: {path}: unknown trigger {name!r}; choose one of {', '.join(TRIGGERS)}"
            f"{closest(name, TRIGGERS)}"
        )
    return {**given, "trigger": trigger}


def _inherited(base: Any, given: Any) -> tuple[Any, Any]:
    """Return ``base`` without what means nothing beside what is ``given``, as its target beside several."""
    if not isinstance(base, Mapping) or not isinstance(given, Mapping):
        return base, given
    dropped: set[str] = set()
    if "several" in given:
        dropped |= {"trigger", "target", "label_rule"}
    if given.get("label_rule") == "all_to_all":
        dropped |= {"target", "several"}
    if "trigger" in given or "target" in given:
        dropped |= {"several"}
    if "target" in given:
        dropped |= {"label_rule"}
    return {key: value for key, value in base.items() if key not in dropped}, given


def _check_keys(given: Any, kind: type[BaseModel], path: str, origin: str) -> None:
    if not isinstance(given, Mapping):
        return  # pydantic says what it should have been
    extra = ["preset"] if kind is Scenario else []
    refuse_unknown_keys(given, [*kind.model_fields, *extra], path, origin)
    for key, value in given.items():
        inside = INSIDE.get(kind, {}).get(key)
        if kind in (Attack, Aim, AttackPattern) and key == "trigger" and isinstance(value, Mapping):
            inside = TRIGGERS.get(str(value.get("name")))
        if inside is None:
            continue
        parts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for number, part in parts:
            place = join(path, key) if number is None else join(join(path, key), number)
            _check_keys(part, inside, place, origin)
