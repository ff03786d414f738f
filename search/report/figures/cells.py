"""Which rows of ``searches`` belong into one figure, and which into one line of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ....rows import Row
from ....unlearning.kinds import GRANULARITIES
from ..differences import SETUP, setting_words, setup_words
from ..line_names import describe, method_name, sortable
from ..status import FAILED
from .styles import style_order

PLACE = ("dataset", "model", "attack")
ONE_SHOT = "one_shot"


@dataclass(frozen=True)
class Context:
    """What the rows of a figure have in common, beside |S_m|.

    Attributes:
        place: dataset, model and attack.
        words: what sets their setup apart from others of this place; "" where there is one.
    """

    place: tuple[str, ...]
    words: str = ""

    @property
    def file(self) -> tuple[str, ...]:
        """Return what files are named by: of several fields that differ the first is enough."""
        return (*self.place, self.words.split(",")[0])

    def title(self, *more: str) -> str:
        """Say what a figure is about."""
        plain = describe(dict(zip(PLACE, self.place, strict=True)))
        return ", ".join(part for part in (plain, self.words, *more) if part)


def by_context(rows: Iterable[Row]) -> dict[Context, list[Row]]:
    """Group rows of one dataset, model, attack and setup; |S_m| and the seed may differ.

    Rows that do not say their setup, of an earlier version, are told apart by all that they do say.
    """
    places: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        places[tuple(str(row[name]) for name in PLACE)].append(row)
    found: dict[Context, list[Row]] = {}
    for place in sorted(places):
        found |= _by_setup(place, places[place])
    return found


def _by_setup(place: tuple[str, ...], rows: Sequence[Row]) -> dict[Context, list[Row]]:
    groups: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    numbers = _setup_numbers(rows)
    for row, number in zip(rows, numbers, strict=True):
        groups[(*(row.get(name) for name in SETUP), number)].append(row)
    words = setup_words([key[:-1] for key in groups])
    contexts: dict[Context, list[Row]] = {}
    for key, said, group in zip(groups, words, groups.values(), strict=True):
        unsaid = f"setup {str(group[0].get('setup'))[:8]}" if key[-1] else ""
        context = Context(place, ", ".join(filter(None, (said, unsaid))))
        contexts.setdefault(context, []).extend(group)
    return contexts


def _setup_numbers(rows: Sequence[Row]) -> list[int]:
    """Number the setups that rows tell apart by nothing but their hash, from 0."""
    seen: dict[tuple[object, ...], dict[object, int]] = defaultdict(dict)
    numbers = []
    for row in rows:
        own = seen[(row["manipulated"], *(row.get(name) for name in SETUP))]
        numbers.append(own.setdefault(row.get("setup"), len(own)))
    return numbers


def by_granularity(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows by granularity; those without one, such as baselines, stand in all groups."""
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["granularity"] or ""].append(row)
    bare = groups.pop("", [])
    if not groups:
        return {"": bare} if bare else {}
    return {name: [*groups[name], *bare] for name in sorted(groups, key=_granularity_order)}


def _granularity_order(name: str) -> tuple[int, str]:
    return (GRANULARITIES.index(name) if name in GRANULARITIES else len(GRANULARITIES), name)


def lines_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows into the lines of a figure: one for each method, and for each of its settings.

    The label of a line names the settings that differ: "PTN-XLF, s_step 1.01".
    """
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row, words in zip(rows, setting_words(rows), strict=True):
        groups[method_name(row) or "?", words].append(row)
    order = sorted(groups, key=lambda key: (style_order(key[0]), _word_order(key[1])))
    return {", ".join(filter(None, key)): groups[key] for key in order}


def _word_order(words: str) -> list[tuple[int, float, str]]:
    return [sortable(word.strip(",")) for word in words.split()]


def method_of(rows: Sequence[Row]) -> str:
    """Return the name of the method of a line."""
    return method_name(rows[0]) or "?"


def methods_of(lines: Mapping[str, Sequence[Row]]) -> dict[str, str]:
    """Return label -> method, as `styles_of` takes them."""
    return {label: method_of(rows) for label, rows in lines.items()}


def is_scored(row: Row) -> bool:
    """Tell whether there is anything of a cell to draw."""
    return row["status"] not in FAILED and row["healed_raw"] is not None and row["damage"] is not None


def healing_shown(rows: Iterable[Row]) -> tuple[str, str]:
    """Tell what of healing is shown: one measure in a panel, never a mixture."""
    if all(row["healed"] is not None for row in rows):
        return "healed", "healed, % of a clean model"
    return "healed_raw", "healed_raw, % (no clean reference)"


def values_of(rows: Iterable[Row], measure: str) -> list[float]:
    """Return a measure in percent or percentage points."""
    scale = 100 if measure == "healed_raw" else 1
    return [scale * row[measure] for row in rows]


def by_seed(rows: Iterable[Row], measure: str) -> list[float]:
    """Return a measure for each seed: the mean of its rows, where a seed has several."""
    seeds: dict[object, list[float]] = defaultdict(list)
    for row in rows:
        seeds[row["seed"]] += values_of([row], measure)
    return [sum(values) / len(values) for values in seeds.values()]


def share_order(share: str) -> tuple[int, float, str]:
    """Return what shares are sorted by, one-shot first."""
    return sortable(share)


def share_name(share: str) -> str:
    """Write a share as a tick."""
    return "one\nshot" if share == ONE_SHOT else f"{100 * float(share):g}"
