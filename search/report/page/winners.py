"""Which method heals best in each context, in sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ....rows import Row
from ..best_lines import PLACE, UNTOUCHED
from ..line_names import describe
from ..table_columns import signed

VICTIM = ("dataset", "model", "attack", "manipulated")
MOST_SENTENCES = 8


class Winner(NamedTuple):
    """The best line of a place: a share of a set-up.

    Attributes:
        name: of the method, with granularity and settings.
        healed: in percent.
        damage: in percentage points; None where it was not measured.
        n: rows behind it.
        rivals: how many other methods there were.
    """

    name: str
    healed: float
    damage: float | None
    n: int
    rivals: int


def best_sentences(lines: Sequence[Row]) -> list[str]:
    """Say for each dataset, model, attack and |S_m| which method heals best, how often, and at what damage.

    Lines are compared that share all but the method: the share of the poison found, set-up and gate.
    The victim as it is does not compete, nor does what saw held-out truth.
    """
    contexts: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for line in lines:
        if line["method"] != UNTOUCHED and not line["uses_oracle"] and line["n"]:
            contexts[tuple(line[name] for name in VICTIM)].append(line)
    told = [_sentence(dict(zip(VICTIM, place, strict=True)), own) for place, own in contexts.items()]
    sentences = [sentence for sentence in told if sentence]
    more = len(sentences) - MOST_SENTENCES
    tail = [f"So much for the first {MOST_SENTENCES} of {len(sentences)} victims; the table has them all."]
    return sentences[:MOST_SENTENCES] + (tail if more > 0 else [])


def _sentence(context: Row, lines: Sequence[Row]) -> str:
    measure, scale = _measure(lines)
    winners = list(_winners(lines, measure, scale))
    if not winners:
        return ""
    (name, count), *others = Counter(one.name for one in winners).most_common()
    own = [one for one in winners if one.name == name]
    where = f"in {count} of {len(winners)} comparisons" if len(winners) > 1 else "in one comparison"
    verb = "heals best" if any(one.rivals for one in own) else "is the only method, and heals"
    rest = ", ".join(f"{other} in {number}" for other, number in others[:3])
    also = f" Elsewhere {rest}{' and others' if len(others) > 3 else ''}." if rest else ""
    return f"{describe(context)}: {name} {verb} {where}, {_values(own, measure)}.{also}"


def _measure(lines: Iterable[Row]) -> tuple[str, float]:
    """Return the measure that every line has, and its factor to percent."""
    return ("healed", 1.0) if all(line["healed"] is not None for line in lines) else ("healed_raw", 100.0)


def _winners(lines: Sequence[Row], measure: str, scale: float) -> Iterator[Winner]:
    places: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for line in lines:
        if line[measure] is not None and line[measure].mean is not None:
            places[_place(line)].append(line)
    for own in places.values():
        best = max(own, key=lambda line: line[measure].mean)
        damage = best["damage"].mean if best["damage"] is not None else None
        yield Winner(line_title(best), scale * best[measure].mean, damage, best["n"], len(own) - 1)


def _place(line: Row) -> tuple[Any, ...]:
    """Return what lines must share to be compared; of rows that do not say their set-up, the scenario."""
    victim = line["scenario"] if line["setup"] is None else None
    return (*(line.get(name) for name in PLACE), victim)


def line_title(line: Mapping[str, Any]) -> str:
    """Name a line by its method, granularity and settings."""
    more = ", ".join(str(line[name]) for name in ("granularity", "settings_note") if line.get(name))
    return f"{line['method_name']} ({more})" if more else str(line["method_name"])


def _values(winners: Sequence[Winner], measure: str) -> str:
    healed = _range([f"{one.healed:.1f}" for one in winners], [one.healed for one in winners])
    damages = [one.damage for one in winners if one.damage is not None]
    damage = f" at a damage of {_range(list(map(signed, damages)), damages)} points" if damages else ""
    n = _range([str(one.n) for one in winners], [one.n for one in winners])
    return f"{measure} {healed} %{damage} (n = {n})"


def _range(texts: Sequence[str], values: Sequence[float]) -> str:
    """Write the least and the greatest value, or the one that there is."""
    pairs = sorted(zip(values, texts, strict=True))
    low, high = pairs[0][1], pairs[-1][1]
    return low if low == high else f"{low} to {high}"
