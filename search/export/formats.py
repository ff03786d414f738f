"""The formats that results are exported to, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...errors import BadInput, closest

Export = Callable[[Sequence[Path], Path, bool], str]
"""Writes what is in the folders to a path, over what is there if asked to; returns a line about it."""


def exported(results: Sequence[Path], to: str, out: Path, *, force: bool = False) -> str:
    """Export results folders, or the folder of a healed model, for another program.

    Args:
        results: folders of results; for a card, the one folder that `Healing.save` wrote.
        to: one of `EXPORTS`.
        out: the file that appears, whole or not at all; of "csv" a folder of files.
        force: overwrite what is there.

    Returns:
        A line that says what was written.

    Raises:
        BadInput: unknown format, folders without what is asked for, or ``out`` cannot be written or exists.
    """
    if to not in EXPORTS:
        raise BadInput(
            f"there is no format {to!r:.60} to export to; choose one of {', '.join(EXPORTS)}"
            f"{closest(to, EXPORTS)}"
        )
    return EXPORTS[to](results, out, force)


def _optuna(results: Sequence[Path], out: Path, force: bool) -> str:
    from .optuna_file import export_studies  # each format needs a library that the others do not

    return export_studies(results, out, force)


def _csv(results: Sequence[Path], out: Path, force: bool) -> str:
    from .csv_folder import export_csv

    return export_csv(results, out, force)


def _duckdb(results: Sequence[Path], out: Path, force: bool) -> str:
    from .duckdb_file import export_database

    return export_database(results, out, force)


def _card(results: Sequence[Path], out: Path, force: bool) -> str:
    from .card_file import export_card

    return export_card(results, out, force)


EXPORTS: Mapping[str, Export] = {
    "optuna": _optuna,
    "csv": _csv,
    "duckdb": _duckdb,
    "huggingface-card": _card,
}
"""Name -> what writes it."""
