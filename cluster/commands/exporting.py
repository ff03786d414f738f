"""The command that hands results, and models that were healed, to other programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from ...errors import printable
from ...search.export import EXPORTS
from ..options import Folder, Results
from .reading import Answer

# a type checker sees texts, whoever reads the annotation while theriac runs sees the choices
if TYPE_CHECKING:
    ExportFormat = str
else:
    ExportFormat = Literal[tuple(EXPORTS)]


def export(results: Results, /, *more: Results, to: ExportFormat, out: Folder, force: bool = False) -> Answer:
    """Export results for other programs, or write the model card of a healed model; works meanwhile.

    optuna: the trials of grid, tpe and fixed searches as studies in one SQLite file (optuna-dashboard
    sqlite:///OUT). csv: runs.csv, searches.csv and steps.csv in a folder. duckdb: the same tables in one
    file, with the views lines (means over seeds) and trials. huggingface-card: README.md for the folder that
    `theriac heal` wrote, which is then RESULTS.

    Parameters
    ----------
    to
        Format: optuna, csv, duckdb (pip install 'theriac[duckdb]') or huggingface-card.
    out
        The file to write, of csv a folder; it is there whole or not at all.
    force
        Overwrite what is there.
    """
    from ...search.export import exported

    return Answer(text=printable(exported((results, *more), to, out, force=force)))
