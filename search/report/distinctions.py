"""What tells lines of a table apart beyond dataset, model, attack, |S_m|, share, seed and method."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ...rows import Row
from ..averages import Rows, differing_settings
from .line_names import CONTEXT, sortable
from .lines import Lines
from .result_table import Column

SCENARIO_FIELDS = ("width", "image_size", "target", "recipe", "attack_settings", "held_back", "gate")
PLACE = (*CONTEXT, "seed")
METHOD = ("method", "search", "granularity")


def told_apart(found: Lines, by: Sequence[str] = ()) -> tuple[tuple[Row, ...], tuple[Column, ...], list[str]]:
    """Add to lines what tells them apart, and return the columns that say so, and notes.

    A field of the scenario (``width``, ``recipe.iterations``, ...) that differs between lines of one dataset,
    model, attack, |S_m| and share becomes a column; of fields that differ together the first does, and a note
    names the others. Settings that differ between lines of one method and search become a text such as
    "s_step 1.01". Lines whose scenarios differ in nothing that rows spell out show the beginning of their
    setup's hash. Lines come in order of their context, these columns, and their method.

    Args:
        found: the lines.
        by: fields that become columns in any case.
    """
    lines = [dict(line) for line in found.lines]
    _add_settings(lines)
    asked = [name for name in by if name not in (*CONTEXT, *METHOD, "seed", "settings")]
    differing = [name for name in _scenario_names(found.rows) if _differs(found, lines, name)]
    for name in dict.fromkeys((*asked, *differing)):
        _add_field(found, lines, name)
    together = _together(lines, [name for name in differing if name not in asked])
    names = [*asked, *together]
    columns = [Column(header=name, fields=(name,), identity=True) for name in names]
    if _setups_left(lines, names):
        columns.append(Column(header="setup", fields=("setup_short",), right=False, identity=True))
        for line in lines:
            line["setup_short"] = str(line["setup"] or line["scenario"] or "")[:8] or None
    shown = [column.fields[0] for column in columns]
    if shown:
        lines.sort(key=lambda line: (*_context_order(line), *(sortable(line[name]) for name in shown)))
    return (
        tuple(lines),
        tuple(columns),
        [note for names in together.values() for note in _notes(lines, names)],
    )


def _context_order(line: Row) -> tuple[Any, ...]:
    return tuple(sortable(line[name]) for name in CONTEXT)


def _together(lines: Sequence[Row], names: Sequence[str]) -> dict[str, list[str]]:
    """Group fields that part lines alike: the first of them -> all of them."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        known: dict[Any, int] = {}
        pattern = tuple(known.setdefault(line[name], len(known)) for line in lines)
        groups.setdefault(pattern, []).append(name)
    return {group[0]: group for group in groups.values()}


def _notes(lines: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Say which values go together, one note for each value of the first field."""
    if len(names) < 2:
        return []
    values = sorted({tuple(line[name] for name in names) for line in lines}, key=lambda one: sortable(one[0]))
    words = [[f"{name} {value}" for name, value in zip(names, one, strict=True)] for one in values]
    return [f"{first} goes with {', '.join(others)}" for first, *others in words]


def _add_settings(lines: Sequence[Row]) -> None:
    alike: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for line in lines:
        alike[tuple(line[name] for name in METHOD)].append(line)
    for group in alike.values():
        words = differing_settings(line["settings"] for line in group)
        for line in group:
            line["settings_note"] = words[line["settings"]] or None


def _scenario_names(rows: Rows) -> list[str]:
    """Return the names of all that rows say about their scenario, JSON taken apart."""
    whole = [name for name in ("width", "image_size", "target") if name in rows.names]
    return whole + [name for name in rows.names if "." in name and name.split(".")[0] in SCENARIO_FIELDS[3:]]


def _differs(found: Lines, lines: Sequence[Row], name: str) -> bool:
    """Tell whether lines of one place have several values of a field."""
    coded = found.rows.coded(name)
    if len(coded.values) < 2:
        return False
    held: dict[tuple[Any, ...], int] = {}
    codes = coded.codes[found.groups.first]
    return any(
        held.setdefault(_place(line), int(codes[line["group"]])) != codes[line["group"]] for line in lines
    )


def _place(line: Row) -> tuple[Any, ...]:
    return tuple(line[name] for name in PLACE)


def _add_field(found: Lines, lines: Sequence[Row], name: str) -> None:
    coded = found.rows.coded(name)
    codes = coded.codes[found.groups.first]
    for line in lines:
        line[name] = coded.values[codes[line["group"]]]


def _setups_left(lines: Sequence[Row], names: Sequence[str]) -> bool:
    """Tell whether lines of one place are of several setups that no column tells apart."""
    seen: dict[tuple[Any, ...], Any] = {}
    for line in lines:
        setup = line["setup"] or line["scenario"]
        if setup is not None:
            place = (*_place(line), *(line[name] for name in names))
            if seen.setdefault(place, setup) != setup:
                return True
    return False
