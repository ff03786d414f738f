"""The table people read, from the ``searches`` rows: to the terminal, Markdown, LaTeX, HTML or CSV.

`searches_table` decides what is shown (rows, columns, order, footnotes); `render` and `TerminalTable` how it
looks. Accuracies, ASR and healing are shown in percent, damage in percentage points; what was not measured is
an en dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from ...rows import Row
from ..averages import MEASURES
from .best_lines import mark_best
from .distinctions import told_apart
from .line_names import CONTEXT, describe, method_name
from .lines import DESCRIBED, ERRORS, IDENTITY, Lines, arranged
from .pivot import pivoted
from .result_table import MISSING, Column, ResultTable
from .table_choice import TableChoice
from .table_columns import CONTEXT_COLUMNS, METHOD_COLUMNS, STATUS_COLUMN, measure_columns
from .table_formats import FORMATS, TerminalTable, render

__all__ = [
    "FORMATS",
    "Lines",
    "ResultTable",
    "TableChoice",
    "TerminalTable",
    "arranged",
    "describe",
    "lines_table",
    "method_name",
    "render",
    "searches_table",
]


def searches_table(
    searches: pa.Table, *, aggregate: bool = False, choice: TableChoice | None = None
) -> ResultTable:
    """Arrange ``searches``: one line per method, granularity and whatever else tells rows apart.

    The order is that of `METHOD_ENTRIES`, sample before batch. What all rows share goes into the caption.
    ``seconds`` is the time of the method itself: importances and search, without the training of the victim
    and the evaluation.

    Args:
        searches: as `ResultsStore.read` gives them.
        aggregate: mean ± sample standard deviation over the rows that differ in the seed only; all columns of
            a line are over the same rows. Failed ones are counted beside.
        choice: all that can be chosen; takes the place of ``aggregate``.

    Raises:
        BadInput: the choice names a field or measure that there is not, or chooses no row.
    """
    choice = choice or TableChoice(aggregate=aggregate)
    return lines_table(arranged(searches, choice), choice)


def lines_table(found: Lines, choice: TableChoice) -> ResultTable:
    """Make the table of lines that are there already.

    Args:
        found: from `arranged`; the ``group`` of a row of the table tells the rows behind it.
        choice: the one they were arranged by.
    """
    errors = _number_errors(found)
    lines, extra, together = told_apart(found, choice.by)
    if choice.best:
        lines = mark_best(
            replace(found, lines=lines), [c.fields[-1] for c in measure_columns(choice.columns)]
        )
    table = ResultTable(
        caption=_caption(lines),
        columns=_columns(lines, extra, choice),
        rows=tuple(_with_notes(line, errors) for line in lines),
        footnotes=(*_notes(found, choice), *together, *(f"[{k}] {message}" for message, k in errors.items())),
        fields=_csv_fields(choice, extra),
        averaged=MEASURES if choice.aggregate else (),
        statistic=choice.statistic,
    )
    return pivoted(table, choice.pivot) if choice.pivot else table


def _number_errors(found: Lines) -> dict[str, int]:
    """Number the errors for footnotes, in the order of the lines; equal errors share one."""
    messages: dict[int, list[str]] = {}
    rows = found.rows
    told = np.zeros(len(rows), bool)
    for name in ("error_class", "error_message"):
        if name in rows.names:
            told |= rows.coded(name).where(lambda value: value is not None)
    told |= rows.coded("status").where(lambda value: value == "failed")
    places = np.flatnonzero(told)
    for place, row in zip(places, rows.lines((*ERRORS, "status"), places), strict=True):
        messages.setdefault(int(found.groups.codes[place]), []).append(_error(row))
    ordered = [text for line in found.lines for text in messages.get(line["group"], [])]
    numbers = {message: number for number, message in enumerate(dict.fromkeys(ordered), start=1)}
    for line in found.lines:
        line["error_numbers"] = sorted({numbers[text] for text in messages.get(line["group"], [])})
    return numbers


def _error(row: Row) -> str:
    parts = [str(row[name]) for name in ERRORS if row.get(name)] or ["no message was recorded"]
    return " ".join(": ".join(parts).split())


def _with_notes(line: Row, errors: Mapping[str, int]) -> Row:
    note = "".join(f" [{number}]" for number in line.get("error_numbers", ()))
    return {**line, "status_note": None if line["status"] is None else f"{line['status']}{note}"}


def _notes(found: Lines, choice: TableChoice) -> list[str]:
    notes = ["* chosen with held-out truth (oracle); not deployable"]
    notes = notes if any(line["uses_oracle"] for line in found.lines) else []
    return notes + (_average_notes(found, choice) if choice.aggregate and found.lines else [])


WORDS = {
    "sd": "mean ± sample standard deviation",
    "interval": "mean [95 % interval, bootstrap over victims]",
    "median": "median",
}


def _average_notes(found: Lines, choice: TableChoice) -> list[str]:
    over = " and ".join(choice.pool)
    notes = [
        f"{WORDS[choice.statistic]} over n rows that differ in {over} alone; failed rows are not counted"
    ]
    spreads = (line[name] for line in found.lines for name in MEASURES if line[name] is not None)
    if any(spread.mean is None for spread in spreads):
        notes.append(
            f"{MISSING} (k): only k rows of the line have a value, so there is no average over all of them"
        )
    if choice.best:
        notes.append(
            "bold: better than every other method of its context but None (sign-flip test over victims, "
            "Holm, 5 %)"
        )
    return notes + _bare_notes(found, choice)


def _bare_notes(found: Lines, choice: TableChoice) -> list[str]:
    rows, notes = found.rows, []
    bare = rows.coded("setup").where(lambda value: value is None) if "setup" in rows.names else None
    if bare is not None and bare.any() and "scenario" not in choice.pool:
        notes.append(
            f"{int(bare.sum())} rows do not say what their victim is (of an older version, and their sweep is"
            f" not in the results): each scenario stands alone; --pool seed scenario averages them anyway"
        )
    seeds = rows.coded("seed")
    both = found.groups.codes * max(1, len(seeds.values)) + seeds.codes
    if choice.pool == ("seed",) and len(np.unique(both)) < len(rows):
        notes.append("some lines hold several rows of one seed")
    return notes


def _caption(lines: Sequence[Row]) -> str:
    common = {name: {line[name] for line in lines} - {None} for name in (*CONTEXT, "seed")}
    return describe({name: next(iter(values)) for name, values in common.items() if len(values) == 1})


def _columns(lines: Sequence[Row], extra: Sequence[Column], choice: TableChoice) -> tuple[Column, ...]:
    varying = {name for name in (*CONTEXT, "seed") if len({line[name] for line in lines} - {None}) > 1}
    context = [column for column in CONTEXT_COLUMNS if column.fields[0] in varying]
    asked = [replace(column, only_if_any=False) for column in measure_columns(choice.columns)]
    measures = asked if choice.columns else measure_columns(())
    own = [c for c in (*METHOD_COLUMNS, *measures, STATUS_COLUMN) if c.wanted(lines)]
    return (*context, *extra, *own)


def _csv_fields(choice: TableChoice, extra: Sequence[Column]) -> tuple[str, ...]:
    more = tuple(column.fields[0] for column in extra if column.fields[0] not in (*IDENTITY, *DESCRIBED))
    method = ("method", "granularity", "search", "settings")
    if choice.aggregate:
        counts = ("n", "rows")
        return (*CONTEXT, *DESCRIBED, "setup", *more, *method, *counts, *MEASURES, "status", "uses_oracle")
    context = (*CONTEXT, *DESCRIBED, "seed", "scenario", "setup", *more)
    return (*context, *method, *MEASURES, "s", "status", "uses_oracle", "objective", "parameters", *ERRORS)
