"""In what rows differ that stand for one method, or for one dataset, model and attack, in words."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence

from ...rows import Row
from ..averages import differing_settings

SETUP = ("target", "width", "image_size", "recipe", "attack_settings", "held_back", "gate")
"""What rows say about their victim, besides dataset, model, attack, |S_m| and seed."""
METHOD = ("method", "search", "granularity")
LONGEST = 40
"""Letters of a field and its value that are shown."""


def setting_words(rows: Sequence[Row]) -> list[str]:
    """Say of each row in what its settings differ from those of the other rows of its method and search.

    Args:
        rows: with ``settings`` as JSON, ``method``, ``search`` and ``granularity``.

    Returns:
        A text for each row, such as "s_step 1.01"; "" where no settings differ.

    Example:
        >>> method = {"method": "xlf", "search": "ptn", "granularity": "sample"}
        >>> texts = ['{"rho": 0.2, "s_step": 1.1}', '{"rho": 0.2, "s_step": 2.0}']
        >>> setting_words([{**method, "settings": text} for text in texts])
        ['s_step 1.1', 's_step 2.0']
    """
    alike: dict[tuple[object, ...], set[str | None]] = defaultdict(set)
    for row in rows:
        alike[tuple(row[name] for name in METHOD)].add(row["settings"])
    words = {
        place: _shortened(differing_settings(sorted(texts, key=str))) if len(texts) > 1 else {}
        for place, texts in alike.items()
    }
    return [words[tuple(row[name] for name in METHOD)].get(row["settings"], "") for row in rows]


def setup_words(setups: Sequence[tuple[object, ...]]) -> list[str]:
    """Say of each of several setups what sets it apart, such as "width 0.5, recipe.iterations 2000".

    Args:
        setups: the values of `SETUP`.
    """
    texts = [json.dumps(dict(zip(SETUP, map(_parsed, setup), strict=True))) for setup in setups]
    words = _shortened(differing_settings(texts))
    return [words[text] for text in texts]


def _parsed(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _shortened(words: dict[str | None, str]) -> dict[str | None, str]:
    """Cut long values, such as lists; texts that are the same then get a number."""
    found: dict[str | None, str] = {}
    seen: Counter[str] = Counter()
    for text, said in words.items():
        short = ", ".join(part if len(part) <= LONGEST else f"{part[:LONGEST]}…" for part in _parts(said))
        seen[short] += 1
        found[text] = f"{short} ({seen[short]})" if seen[short] > 1 else short
    return found


def _parts(said: str) -> list[str]:
    """Split a text at the commas between its fields, not at those within a list."""
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(said):
        depth += letter in "[{"
        depth -= letter in "]}"
        if letter == "," and depth == 0:
            parts.append(said[start:place].strip())
            start = place + 1
    return [*parts, said[start:].strip()]
