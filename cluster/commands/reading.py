"""The commands that read a results folder, and change nothing."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import BadInput, printable
from ..options import (
    AsJson,
    Format,
    Other,
    Picture,
    Results,
    Some,
    Table,
    TableOptions,
    check_figure_folder,
)

if TYPE_CHECKING:
    from ...search.report import ResultTable

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a command found.

    Attributes:
        text: to be printed.
        terminal: what a terminal shows instead, fitted to its width.
        raw: the text is for programs: printed as it is, unless to a terminal.
    """

    text: str
    terminal: Any = None
    raw: bool = False


def status(results: Results, /, *, json: AsJson = False) -> Answer:
    """Show how the sweeps of a results folder stand: done, running, failed, to go, time left."""
    from ...search.report import status_json, status_text, sweep_status

    found = sweep_status(results)
    if not found:
        raise BadInput(f"no sweep was run into {results} yet; start one with `theriac sweep`")
    return Answer(text=status_json(found) if json else status_text(found))


def plot(
    results: Results,
    /,
    *,
    to: Other = None,
    format: Picture = "png",
    most: Some = 4,
) -> Answer:
    """Draw the figures of a results folder: healing, damage, trade-offs, settings, times; works meanwhile.

    Parameters
    ----------
    to
        Folder for the figures; by default RESULTS/figures.
    format
        png, svg or pdf.
    most
        Most figures of each kind; of more, those of first seeds and shares are drawn.
    """
    from ...search.report import result_figures

    check_figure_folder(to)
    drawn = result_figures(results, to or results / "figures", ending=format, most=most)
    for shows, count in drawn.left_out.items():
        log.warning("%d more figures %s are not drawn; --most %d draws all", count, shows, most + count)
    return Answer(text="\n".join(printable(str(figure)) for figure in drawn.paths))


def table(
    results: Results,
    /,
    *more: Results,
    format: Format = "terminal",
    options: Table = TableOptions(),  # noqa: B008 (frozen)
) -> Answer:
    """Print the searches of results folders as a table; works while they are being written.

    Parameters
    ----------
    format
        terminal, markdown, latex (booktabs), html or csv (raw numbers, all columns).
    """
    from ...search.report import explained, finished_searches, published_comparison, searches_table

    searches = finished_searches(results, *more)
    if options.preset:
        printed = published_comparison(
            searches, options.preset, where=options.filter, loose=options.loose, explain=options.explain
        )
        return shown(printed, format)
    if options.explain:
        return shown(explained(searches, options.choice, options.explain), format)
    return shown(searches_table(searches, choice=options.choice), format)


def shown(found: ResultTable, format: str = "terminal") -> Answer:
    """Return a table in a format."""
    from ...search.report import TerminalTable, render

    text = render(found, "text" if format == "terminal" else format).rstrip("\n")
    terminal = TerminalTable(table=found) if format == "terminal" else None
    return Answer(text=text, terminal=terminal, raw=format == "csv")
