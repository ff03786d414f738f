"""LaTeX that LaTeX takes: booktabs, spanners, labels, and longtable where a table is long."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from theriac.search.report import TableChoice, finished_searches, published_comparison, render, searches_table
from theriac.tests.filled_results import filled_rows, write

DOCUMENT = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{booktabs,longtable}
\begin{document}
%s
\end{document}
"""


def long_table(tmp_path: Path) -> str:
    searches = finished_searches(write(tmp_path / "long", filled_rows("potion-table1")))
    return render(searches_table(searches), "latex")


def short_table(tmp_path: Path) -> str:
    odd = [
        {**row, "status": "failed", "error_message": r"50% & $x_1 #{~^\ --v <|> “ü→"}
        for row in filled_rows("digits-quick")
    ]
    searches = finished_searches(
        write(tmp_path / "odd", odd[:4] + filled_rows("digits-quick", ["seeds=[3]"]))
    )
    choice = TableChoice(aggregate=True, pivot="share", columns=("healed", "damage"))
    return render(searches_table(searches, choice=choice), "latex")


def published(tmp_path: Path) -> str:
    searches = finished_searches(write(tmp_path / "published", filled_rows("potion-table1")))
    return render(published_comparison(searches, "potion-table1"), "latex")


MAKERS = [long_table, short_table, published]


@pytest.mark.parametrize("make", MAKERS)
def test_every_line_has_as_many_cells_as_columns(tmp_path: Path, make) -> None:
    text = make(tmp_path)
    found = re.search(r"\\begin\{(?:tabular|longtable)\}\{([lr]+)\}", text)
    assert found
    columns = len(found[1])
    body = [line for line in text.splitlines() if line.endswith(r" \\") and "caption" not in line]
    for line in body:
        spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
        assert len(re.findall(r"(?<!\\)&", line)) + 1 + sum(spans) == columns, line


def test_a_long_table_breaks_over_pages_and_repeats_its_head(tmp_path: Path) -> None:
    text = long_table(tmp_path)
    assert r"\begin{longtable}" in text
    assert r"\endhead" in text
    assert r"\begin{table}" not in text


def test_groups_of_columns_have_titles_and_rules(tmp_path: Path) -> None:
    text = published(tmp_path)
    assert r"\multicolumn{4}{c}{Goel et al. (2024), Poison healed}" in text
    assert r"\cmidrule(lr){2-5}" in text
    assert r"\label{tab:potion-table1" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no LaTeX on this machine")
@pytest.mark.parametrize("make", MAKERS)
def test_latex_takes_it(tmp_path: Path, make) -> None:
    (tmp_path / "table.tex").write_text(DOCUMENT % make(tmp_path), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000
