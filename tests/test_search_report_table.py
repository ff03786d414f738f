"""The table people read: its lines, columns and order, and that no format loses or bends a value."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from theriac.errors import BadInput
from theriac.search.report.result_table import MISSING
from theriac.search.report.table import FORMATS, TerminalTable, render, searches_table
from theriac.search.store.schemas import SCHEMAS

BASE: dict[str, Any] = {
    "scenario": "5ce0a1",
    "setup": "5e70b",
    "dataset": "digits",
    "model": "resnet9",
    "attack": "badnets",
    "manipulated": 100,
    "share": "0.2",
    "seed": 0,
    "status": "stopped",
    "clean_accuracy_before": 0.983,
    "asr_before": 0.9912,
    "healed_raw_before": 0.1,
}
DONE: dict[str, Any] = {
    "search": "ptn",
    "alpha": 12.345678901234567,
    "steps": 41,
    "dampened": 12345,
    "clean_accuracy": 0.971,
    "damage": -1.2,
    "asr": 0.0333,
    "healed_raw": 0.1 + 0.2,
    "seconds_importance": 0.25,
    "seconds_search": 1.5,
    "seconds_victim": 900.0,
}
PTN = [(method, granularity) for method in ("xlf", "ssd", "lf") for granularity in ("batch", "sample")]


def searches(*rows: dict[str, Any]) -> pa.Table:
    stamps = {"written_at": datetime.now(UTC), "schema_version": 1}
    full = [{**BASE, "key": f"k{i}", **stamps, **row} for i, row in enumerate(rows)]
    return pa.Table.from_pylist(full, schema=SCHEMAS["searches"])


def done(method: str = "xlf", granularity: str = "sample", **columns: Any) -> dict[str, Any]:
    return {**DONE, "method": method, "granularity": granularity, **columns}


def shown(table: pa.Table, *, aggregate: bool = False) -> list[dict[str, str]]:
    result = searches_table(table, aggregate=aggregate)
    headers = [column.header.replace("\N{SOFT HYPHEN}", "") for column in result.columns]
    return [dict(zip(headers, cells, strict=True)) for cells in result.cells()]


def test_a_row_is_shown_in_percent_with_before_and_after() -> None:
    (row,) = shown(searches(done()))
    assert row == {
        "method": "PTN-XLF",
        "granularity": "sample",
        "clean acc. %": "98.3 → 97.1",
        "damage": "-1.2",
        "ASR %": "99.1 → 3.3",
        "healed_raw %": "30.0",
        "alpha": "12.3",
        "steps": "41",
        "dampened": "12,345",
        "seconds": "1.8",
        "status": "stopped",
    }


def test_baselines_come_first_then_ssd_lf_xlf_sample_before_batch() -> None:
    rows = [done(*place) for place in PTN] + [{"method": name} for name in ("eu", "x", "none", "rga", "ibau")]
    order = [(row["method"], row["granularity"]) for row in shown(searches(*rows))]
    methods = [(f"PTN-{name}", how) for name in ("SSD", "LF", "XLF") for how in ("sample", "batch")]
    first = [(name, MISSING) for name in ("None", "EU", "I-BAU", "RGA")]
    assert order == [*first, *methods, ("X", MISSING)]


def test_the_grid_is_told_from_ptn() -> None:
    rows = shown(searches(done("ssd", search="grid"), done("ssd"), {"method": "none", "search": "ptn"}))
    assert [row["method"] for row in rows] == ["None", "Grid-SSD", "PTN-SSD"]


def test_lambda_is_shown_where_it_is_not_one_everywhere() -> None:
    ptn, none = done(dampening_constant=1.0), {"method": "none"}
    assert "lambda" not in shown(searches(ptn, none))[0]
    grid = done("ssd", search="grid", alpha=10.0, dampening_constant=5.0)
    rows = {row["method"]: row["lambda"] for row in shown(searches(ptn, none, grid))}
    assert rows == {"None": MISSING, "Grid-SSD": "5", "PTN-XLF": "1"}
    averaged = shown(searches(grid, {**grid, "seed": 1, "dampening_constant": 10.0}), aggregate=True)
    assert averaged[0]["lambda"] == "7.5 ± 3.54"
    assert "lambda" not in shown(searches(ptn, {**ptn, "seed": 1}), aggregate=True)[0]
    varied = searches(ptn, {**ptn, "seed": 1, "dampening_constant": 1.5})
    assert shown(varied, aggregate=True)[0]["lambda"] == "1.25 ± 0.354"


def test_a_grid_that_found_nothing_has_no_lambda_and_the_csv_has_every_number_once() -> None:
    nothing = done("ssd", search="grid", status="no_stop", alpha=None, dampening_constant=None)
    assert "lambda" not in shown(searches(nothing))[0]
    table = searches_table(searches(nothing, done("lf", search="grid", dampening_constant=0.05)))
    (lf, ssd) = sorted(csv.DictReader(io.StringIO(render(table, "csv"))), key=lambda row: row["method"])
    assert (lf["search"], lf["dampening_constant"], ssd["dampening_constant"]) == ("grid", "0.05", "")
    assert len(set(table.fields)) == len(table.fields)


def test_what_is_missing_is_a_dash_and_zero_is_zero() -> None:
    (none,) = shown(searches({"method": "none", "healed_raw": 0.0, "damage": -0.0, "alpha": float("nan")}))
    assert (none["healed_raw %"], none["damage"], none["clean acc. %"]) == (
        "0.0",
        "+0.0",
        f"98.3 → {MISSING}",
    )
    assert [none[name] for name in ("alpha", "steps", "dampened", "seconds")] == [MISSING] * 4
    (nothing,) = shown(searches({"method": "none", "asr_before": None}))
    assert nothing["ASR %"] == MISSING


def test_healed_appears_only_where_some_row_has_it() -> None:
    assert "healed %" not in shown(searches(done()))[0]
    rows = shown(searches(done(healed=91.25), done("lf")))
    assert [row["healed %"] for row in rows] == [MISSING, "91.2"]


@pytest.mark.parametrize(("alpha", "text"), [(0.012345, "0.0123"), (999.4, "999"), (12345.6, "1.23e4")])
def test_alpha_has_three_digits(alpha: float, text: str) -> None:
    assert shown(searches(done(alpha=alpha)))[0]["alpha"] == text


def test_what_differs_is_a_column_and_what_does_not_is_the_caption() -> None:
    table = searches_table(searches(done(share="one_shot"), done(share="0.25"), done(share="0.1")))
    assert table.caption == "digits, resnet9, badnets, |S_m| = 100, seed 0"
    assert [cells[0] for cells in table.cells()] == ["one_shot", "0.1", "0.25"]
    assert table.columns[0].header == "share"
    assert searches_table(searches(done(share="one_shot"))).caption.endswith("one-shot, seed 0")


def test_scenarios_that_differ_in_nothing_visible_are_told_apart() -> None:
    rows = shown(searches(done(setup="aaaaaaaaaaaa"), done(setup="bbbbbbbbbbbb")))
    assert [row["setup"] for row in rows] == ["aaaaaaaa", "bbbbbbbb"]
    assert "setup" not in shown(searches(done(scenario="a", seed=1), done(scenario="b", seed=2)))[0]


def test_failures_point_to_footnotes_that_equal_errors_share() -> None:
    failed = {"status": "failed", "error_class": "OutOfMemory", "error_message": "no\n room"}
    rows = [{"method": "ssd", **failed}, {"method": "lf", **failed}, {"method": "xlf", "status": "failed"}]
    table = searches_table(searches(*rows))
    assert [cells[-1] for cells in table.cells()] == ["failed [1]", "failed [1]", "failed [2]"]
    assert table.footnotes == ("[1] OutOfMemory: no room", "[2] no message was recorded")


def test_rows_that_saw_the_truth_are_marked() -> None:
    table = searches_table(searches(done(uses_oracle=True), done("lf", uses_oracle=False)))
    assert [cells[0] for cells in table.cells()] == ["PTN-LF", "PTN-XLF*"]
    assert table.footnotes == ("* chosen with held-out truth (oracle); not deployable",)


def test_seeds_are_averaged_with_the_sample_deviation() -> None:
    rows = [done(seed=seed, scenario=f"s{seed}", healed_raw=0.5 + seed / 10, alpha=2.0) for seed in range(3)]
    (row,) = shown(searches(*rows), aggregate=True)
    assert (row["n"], row["healed_raw %"], row["alpha"]) == ("3", "60.0 ± 10.0", "2 ± 0")
    assert row["damage"] == "-1.2 ± 0.0"
    assert "seed" not in row
    assert "scenario" not in row


def test_a_failed_seed_lowers_the_count_of_all_columns_of_its_line() -> None:
    rows = [
        done(seed=0, asr=0.0),
        done(seed=1, asr=0.1),
        {"method": "xlf", "granularity": "sample", "seed": 2},
    ]
    rows[2] |= {"search": "ptn", "status": "failed", "error_message": "boom"}
    (row,) = shown(searches(*rows), aggregate=True)
    assert row["ASR %"] == "99.1 ± 0.0 → 5.0 ± 7.1"
    assert row["n"] == "2 of 3"
    assert row["status"] == "stopped 2, failed 1 [1]"


def test_a_single_seed_has_no_deviation() -> None:
    (row,) = shown(searches(done()), aggregate=True)
    assert (row["n"], row["damage"], row["steps"]) == ("1", "-1.2", "41")
    (row,) = shown(searches(done(seed=0), done(seed=1, damage=None)), aggregate=True)
    assert (row["n"], row["damage"], row["steps"]) == ("2", f"{MISSING} (1)", "41 ± 0")


def test_shares_granularities_searches_and_oracle_rows_are_not_mixed() -> None:
    rows = [done(), done(share="0.5"), done("xlf", "batch"), done(search="grid"), done(uses_oracle=True)]
    assert len(shown(searches(*rows), aggregate=True)) == 5


def test_searches_that_repeat_a_seed_are_pointed_out() -> None:
    table = searches_table(searches(done(), done()), aggregate=True)
    assert any("several rows of one seed" in note for note in table.footnotes)
    (note,) = searches_table(searches(done(seed=0), done(seed=1)), aggregate=True).footnotes
    assert note.startswith("mean ± sample standard deviation over n rows that differ in seed alone")


def test_plain_text_is_aligned_and_never_cut() -> None:
    message = "a very long message " * 20
    lines = render(
        searches_table(searches(done(), {"method": "lf", "status": "failed", "error_message": message})),
        "text",
    ).splitlines()
    assert message.strip() in lines[-1]
    head, rule, *rows = lines[1:5]
    assert head.split()[-6:] == ["%", "alpha", "steps", "dampened", "seconds", "status"]
    for end in (i for i, character in enumerate(rule) if rule[i : i + 2] == "  " and character == " "):
        assert all(line[end : end + 2] == "  " for line in (head, *rows))


def test_markdown_has_one_line_for_each_row_and_escapes() -> None:
    table = searches_table(
        searches(done(uses_oracle=True), {"method": "lf", "status": "a|b", "error_message": "_x_"})
    )
    text = render(table, "markdown")
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 4
    assert {line.replace("\\|", "").count("|") for line in lines} == {len(table.columns) + 1}
    assert r"PTN-XLF\*" in text
    assert "healed_raw %" in text
    assert r"\_x\_" in text
    assert "\n---" not in text


def test_latex_escapes_what_latex_would_read() -> None:
    rows = searches(
        done(damage=-1.2), {"method": "lf", "status": "no_stop", "error_message": r"50% & $x_1 #{~^\ --v"}
    )
    text = render(searches_table(rows), "latex")
    assert r"$-$1.2" in text
    assert r"no\_stop" in text
    assert r"50\% \& \$x\_1 \#\{\textasciitilde{}\textasciicircum{}\textbackslash{} -{}-v" in text
    assert r"98.3 $\to$ 97.1" in text
    assert [line for line in text.splitlines() if line in (r"\toprule", r"\midrule", r"\bottomrule")] == [
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
    ]
    assert text.isascii()
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert {line.count(" & ") for line in body} == {10}


def test_csv_keeps_every_digit_and_leaves_missing_values_empty() -> None:
    (row,) = csv.DictReader(io.StringIO(render(searches_table(searches(done())), "csv")))
    for name in ("alpha", "healed_raw", "asr", "damage", "clean_accuracy_before"):
        assert float(row[name]) == {**BASE, **DONE}[name]
    assert (row["steps"], row["seconds"], row["healed"], row["error_class"]) == ("41", "1.75", "", "")
    assert (row["method"], row["granularity"], row["search"], row["seed"]) == ("xlf", "sample", "ptn", "0")


def test_csv_of_averages_has_mean_deviation_and_count() -> None:
    table = searches_table(searches(done(seed=0, asr=0.1), done(seed=1, asr=0.3)), aggregate=True)
    (row,) = csv.DictReader(io.StringIO(render(table, "csv")))
    assert (float(row["asr_mean"]), row["asr_n"], row["n"]) == (0.2, "2", "2")
    assert float(row["asr_sd"]) == pytest.approx(0.02**0.5)
    assert (row["healed_mean"], row["healed_sd"]) == ("", "")


def test_csv_of_no_rows_still_names_the_columns() -> None:
    for aggregate in (False, True):
        text = render(searches_table(searches(), aggregate=aggregate), "csv")
        assert text.startswith("dataset,model,attack")
        assert text.count("\n") == 1


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("aggregate", [False, True])
def test_every_format_stands_an_empty_table(name: str, aggregate: bool) -> None:
    assert render(searches_table(searches(), aggregate=aggregate), name)


def test_another_format_is_refused_with_the_list() -> None:
    with pytest.raises(
        BadInput, match="no table format 'xml'; choose one of text, markdown, latex, html, csv"
    ):
        render(searches_table(searches()), "xml")


def printed(width: int, table: pa.Table, *, aggregate: bool = False) -> list[str]:
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    console.print(TerminalTable(table=searches_table(table, aggregate=aggregate)))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


QUICKSTART = [done(*place) for place in PTN] + [{"method": "none", "clean_accuracy": 0.983, "asr": 0.9912}]


def test_the_quickstart_fits_eighty_columns_in_one_block() -> None:
    lines = printed(80, searches(*QUICKSTART))
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("PTN-")]) == 6
    assert all(line.rstrip().endswith("stopped") for line in lines if line.startswith("PTN-"))


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_terminal_cuts_or_breaks_a_cell(width: int) -> None:
    rows = [{**row, "seed": seed} for row in QUICKSTART for seed in range(2)]
    table = searches(*rows, done("lf", share="one_shot", uses_oracle=True))
    for aggregate in (False, True):
        lines = printed(width, table, aggregate=aggregate)
        assert max(map(len, lines)) <= width
        text = " ".join(" ".join(lines).split()).replace("→", " → ")
        text = " ".join(text.split())
        cells = [cell for row in searches_table(table, aggregate=aggregate).cells() for cell in row]
        assert [cell for cell in cells if cell not in text] == []


def test_messages_are_not_read_as_markup() -> None:
    lines = printed(120, searches({"method": "lf", "status": "failed", "error_message": "[/bold] [red]x"}))
    assert lines[-1].strip() == "[1] [/bold] [red]x"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1", "=cmd|' /C x'!A1"]
)
def test_csv_holds_no_formulas(text: str) -> None:
    rows = searches({"method": "lf", "status": "failed", "error_message": text, "dataset": text})
    (row,) = csv.DictReader(io.StringIO(render(searches_table(rows), "csv"), newline=""))
    expected = "'" + text.replace("\r", "\n")
    assert (row["error_message"], row["dataset"]) == (expected, expected)


def test_csv_leaves_numbers_as_they_are() -> None:
    rows = searches(done(damage=-0.5, share="-0.5", attack="sine", error_message="1e-3"))
    (row,) = csv.DictReader(io.StringIO(render(searches_table(rows), "csv")))
    assert (row["damage"], row["share"], row["attack"], row["error_message"]) == (
        "-0.5",
        "-0.5",
        "sine",
        "1e-3",
    )


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_holds_every_row(name: str) -> None:
    rows = [
        done(method, granularity) for method in ("ssd", "lf", "xlf") for granularity in ("sample", "batch")
    ]
    text = render(searches_table(searches(*rows)), name)
    for method in ("ssd", "lf", "xlf"):
        assert len(re.findall(rf"(?i)\b(?:ptn-)?{method}\b", text)) >= 2
    assert "\x1b" not in text
