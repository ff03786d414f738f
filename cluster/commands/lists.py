"""What `theriac list` shows."""

from __future__ import annotations

import textwrap
from pathlib import Path

from ...datasets.own_code import Group, own_names
from ...datasets.sources import available, load_dataset
from ...datasets.triggers import TRIGGERS
from ...errors import BadInput
from ...search.methods import METHOD_ENTRIES, MethodEntry
from ...search.searches import SEARCH_ENTRIES
from ...search.sweep import PRESETS, Scenario, sweep_presets
from ...search.training import TUNE_SEARCHES
from ...unlearning.models import MODELS
from .method_lines import WIDTH, method_lines

Entries = list[tuple[str, str]]

COMMAND = 'python -c "'

ATTACK_TEXTS = {
    "label_rule": "one_target (the default), or all_to_all: class y should become y + 1, the last one 0",
    "several": "two or more of these triggers, each with its own target",
}


def catalogue(data: Path | None) -> dict[str, Entries]:
    """Return title -> (name, what it is) for everything a user can name."""
    return {
        "datasets": [
            *((name, _found(found, detail)) for name, found, detail in available(data)),
            *_own("datasets"),
        ],
        "models": [
            *((name, "with a width factor") for name in MODELS),
            *_own("models"),
            ("<timm name>", "any of timm.list_models()"),
        ],
        "attacks": [
            *((name, _first_line(kind.__doc__)) for name, kind in TRIGGERS.items()),
            *_own("triggers"),
            *ATTACK_TEXTS.items(),
        ],
        "methods": [(name, _with_needs(entry)) for name, entry in METHOD_ENTRIES.items()],
        "searches": [
            *((name, entry.about) for name, entry in SEARCH_ENTRIES.items()),
            *((name, text) for name, text in TUNE_SEARCHES.items() if name not in SEARCH_ENTRIES),
        ],
        "presets": [(name, _about(scenario)) for name, scenario in PRESETS.items()],
        "sweeps": list(sweep_presets().items()),
    }


def listing(topic: str | None, name: str | None, data: Path | None) -> list[str]:
    """Write a list, or all of them, as lines: titles at the margin, entries indented.

    Args:
        topic: a title of `catalogue`; None: all.
        name: a method, whose settings are listed instead; only with the topic "methods".
        data: the folder of the datasets.

    Raises:
        BadInput: a name with another topic, or of no method.
    """
    if name is not None:
        if topic != "methods":
            raise BadInput(
                f"{name!r}: only methods can be looked at by name; run theriac list methods {name}"
            )
        return method_lines(name)
    chosen = {title: entries for title, entries in catalogue(data).items() if topic in (None, title)}
    return [line for title, entries in chosen.items() for line in (title, *_aligned(entries))]


def _aligned(entries: Entries) -> list[str]:
    width = max(len(name) for name, _ in entries)
    return [line for name, text in entries for line in _entry(f"  {name:<{width}}  ", text)]


def _entry(head: str, text: str) -> list[str]:
    """Wrap what an entry says beside its name; a command to be copied stays on a line of its own."""
    about, _, command = text.partition(COMMAND)
    margin = " " * len(head)
    wrapper = textwrap.TextWrapper(
        WIDTH, initial_indent=head, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False
    )
    lines = wrapper.wrap(about)
    return [*lines, f"    {COMMAND}{command}"] if command else lines


def check_sheet(sheet: Path | None, topic: str | None, dataset: str) -> None:
    """Refuse options of a sheet where none is drawn.

    Args:
        sheet: where the sheet goes, if one was asked for.
        topic: what is listed.
        dataset: whose images were asked for.

    Raises:
        BadInput: a sheet of another topic than attacks, or a dataset without a sheet.
    """
    if sheet and topic != "attacks":
        raise BadInput(f"--sheet {sheet} draws attacks; run theriac list attacks --sheet {sheet}")
    if not sheet and dataset != "digits":
        raise BadInput(f"--dataset {dataset} is for a sheet; give --sheet, too")


def draw_attacks(path: Path, dataset: str, data: Path | None) -> Path:
    """Draw the sheet of all triggers on images of a dataset.

    Args:
        path: of the PNG file.
        dataset: by name.
        data: folder of the datasets; None: the default one.
    """
    from ...search.report import (
        attack_sheet,  # here, because matplotlib takes a second to import
    )

    return attack_sheet(load_dataset(dataset, root=data), path)


def _own(group: Group) -> Entries:
    return [(name, f"of an installed package: {entry.value}") for name, entry in own_names(group).items()]


def _with_needs(entry: MethodEntry) -> str:
    return f"{entry.about}; needs images known to be clean" if entry.needs_clean else entry.about


def _found(found: bool, detail: str) -> str:
    return f"found: {detail}" if found else f"missing: {detail}"


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _about(scenario: Scenario) -> str:
    model, attack = scenario.model, scenario.attack
    aim = "" if attack.one_target is None else f" to class {attack.one_target}"
    return (
        f"{scenario.dataset}, {model.name} x {model.width:g}, {attack.name}{aim}, "
        f"|S_m| = {scenario.manipulated}, {scenario.recipe.iterations} iterations"
    )
