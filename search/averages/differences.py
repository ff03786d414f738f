"""In what settings differ."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .fields import leaves_of


def differing_settings(texts: Iterable[str | None]) -> dict[str | None, str]:
    """Say of each of several settings what sets it apart.

    Args:
        texts: settings as JSON, of cells of one method and search.

    Returns:
        Text -> the fields that are not the same in all of them, such as "s_step 1.01, rho 0.3"; "" if there
        is nothing to tell apart.

    Example:
        >>> differing_settings(['{"rho": 0.2, "s_step": 1.1}', '{"rho": 0.2, "s_step": 2.0}'])
        {'{"rho": 0.2, "s_step": 1.1}': 's_step 1.1', '{"rho": 0.2, "s_step": 2.0}': 's_step 2.0'}
    """
    trees = {text: leaves_of(text) for text in dict.fromkeys(texts)}
    names = dict.fromkeys(name for tree in trees.values() for name in tree)
    apart = [name for name in names if len({str(tree.get(name)) for tree in trees.values()}) > 1]
    return {
        text: ", ".join(f"{name} {_shown(tree.get(name))}" for name in apart) for text, tree in trees.items()
    }


def _shown(value: Any) -> str:
    return "not recorded" if value is None else str(value)
