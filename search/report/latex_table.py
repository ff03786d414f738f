"""A table of results for LaTeX, with booktabs; longtable where it is longer than a page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from .result_table import MISSING, SOFT, ResultTable

LONG = 45
"""Rows; from there on a table breaks over pages."""


def latex_table(table: ResultTable) -> str:
    """Write a table for a document that uses booktabs, and longtable if it is long.

    Columns of one group stand under their title; the label is made of the caption.
    """
    body = [_line(cells, best) for cells, best in zip(table.cells(), table.best(), strict=True)]
    head, layout = list(_head(table)), "".join("r" if column.right else "l" for column in table.columns)
    caption = [rf"\caption{{{_escape(table.caption)}}}"] if table.caption else []
    label = [rf"\label{{tab:{_slug(table.caption)}}}"] if table.caption else []
    notes = [rf"\par{{\footnotesize {_escape(note)}}}" for note in table.footnotes]
    if len(body) > LONG:
        top = [" ".join([*caption, *label]) + r" \\"] if caption else []
        lines = [rf"\begin{{longtable}}{{{layout}}}", *top, *head, r"\endhead", *body]
        return "\n".join([*lines, r"\bottomrule", r"\end{longtable}", *notes]) + "\n"
    tabular = [rf"\begin{{tabular}}{{{layout}}}", *head, *body, r"\bottomrule", r"\end{tabular}"]
    lines = [r"\begin{table}", r"\centering", *caption, *label, *tabular, *notes, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _head(table: ResultTable) -> Iterator[str]:
    yield r"\toprule"
    if any(column.group for column in table.columns):
        yield from _spanners(table)
    yield " & ".join(_escape(column.header.replace(SOFT, "")) for column in table.columns) + r" \\"
    yield r"\midrule"


def _spanners(table: ResultTable) -> Iterator[str]:
    """Yield the line of the groups' titles, and the rules below them."""
    titles, rules, place = [], [], 1
    for group, columns in groupby(table.columns, key=lambda column: column.group):
        count = len(list(columns))
        titles.append(rf"\multicolumn{{{count}}}{{c}}{{{_escape(group)}}}" if group else " & " * (count - 1))
        rules += [rf"\cmidrule(lr){{{place}-{place + count - 1}}}"] if group else []
        place += count
    yield " & ".join(titles) + r" \\"
    yield " ".join(rules)


def _line(cells: list[str], best: list[bool]) -> str:
    texts = (
        rf"\textbf{{{_escape(text)}}}" if bold else _escape(text)
        for text, bold in zip(cells, best, strict=True)
    )
    return " & ".join(texts) + r" \\"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "results"


def _escape(text: str) -> str:
    return re.sub(r"(?<![\w.)}-])-(?=\d)", "$-$", text.translate(_LATEX).replace("--", "-{}-")).replace(
        MISSING, "--"
    )


_LATEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}"}
    | {"→": r"$\to$", "±": r"$\pm$"}
)
