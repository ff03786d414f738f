"""`theriac table` as people type it: options that go together, and refusals in one line."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from theriac.cluster.cli import run
from theriac.tests.filled_results import filled_rows, write

Captured = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = filled_rows("digits-quick", ["seeds=[0, 1, 2]"])
    return write(tmp_path_factory.mktemp("filled"), rows)


def table(results: Path, *options: str) -> int:
    return run(["table", str(results), *options])


def lines(capsys: Captured) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def test_one_row_a_line_and_averages(results: Path, capsys: Captured) -> None:
    assert table(results, "--format", "csv") == 0
    single = lines(capsys)
    assert table(results, "--format", "csv", "--aggregate") == 0
    averaged = lines(capsys)
    assert len(single) == 3 * len(averaged)
    assert {line["n"] for line in averaged} == {"3"}


@pytest.mark.parametrize("pool", [["--pool", "seed,share"], ["--pool", "seed", "share"]])
def test_names_may_be_parted_by_commas(results: Path, capsys: Captured, pool: list[str]) -> None:
    assert table(results, "--format", "csv", *pool) == 0
    found = lines(capsys)
    shares = {row["share"] for row in filled_rows("digits-quick")}
    assert {line["n"] for line in found if line["method"] == "xlf"} == {str(3 * len(shares))}


def test_options_of_averages_imply_averages(results: Path, capsys: Captured) -> None:
    for option in (["--statistic", "median"], ["--best"], ["--group-by", "method,share,search,granularity"]):
        assert table(results, "--format", "csv", *option) == 0
        assert {line["n"] for line in lines(capsys)} == {"3"}


def test_a_pivot_puts_shares_side_by_side(results: Path, capsys: Captured) -> None:
    assert (
        table(results, "--aggregate", "--pivot", "share", "--columns", "healed", "--format", "markdown") == 0
    )
    text = capsys.readouterr().out
    assert "share 0.5: healed %" in text
    assert "status" not in text


def test_an_explained_number_is_made_of_its_rows(results: Path, capsys: Captured) -> None:
    assert table(results, "--aggregate", "--format", "csv") == 0
    third = lines(capsys)[2]
    assert table(results, "--aggregate", "--explain", "3:damage", "--format", "csv") == 0
    behind = lines(capsys)
    assert len({line["key"] for line in behind}) == 3
    assert {(line["method"], line["share"]) for line in behind} == {(third["method"], third["share"])}
    mean = sum(float(line["damage"]) for line in behind) / 3
    assert float(third["damage_mean"]) == pytest.approx(mean)


def test_a_published_table_of_another_protocol(tmp_path: Path, capsys: Captured) -> None:
    rows = filled_rows("cifar10-small", ["granularities=[batch]"])
    assert table(write(tmp_path, rows), "--preset", "potion-table1", "--loose", "--format", "csv") == 0
    found = [line for line in lines(capsys) if line["line"] == "PTN-XLF"]
    assert [line["paper"] for line in found] == ["93.72", "-1.41", "68.01", "-1.34"]
    assert all(line["ours"] for line in found)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--filter", "share >"], "the filter 'share >' cannot be read"),
        (["--filter", "sharre = 1"], "did you mean 'share'"),
        (["--pool", "sed"], "no field 'sed'"),
        (["--columns", "heald"], "did you mean 'healed'"),
        (["--group-by", "method"], "rows of one line differ in"),
        (["--aggregate", "--pivot", "method_"], "--pivot method_: the lines of this table do not differ"),
        (["--explain", "healed"], "--explain healed: name a line"),
        (["--aggregate", "--explain", "999:healed"], "the table has lines 1 to"),
        (["--preset", "potion-tabel1"], "did you mean 'potion-table1'"),
        (["--preset", "potion-table1", "--best"], "--best: a published table says itself"),
        (["--loose"], "--loose: it goes with --preset"),
        (["--statistic", "mode"], "mode"),
        (["--format", "xml"], "xml"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_exit_2(
    results: Path, capsys: Captured, options: list[str], words: str
) -> None:
    assert table(results, *options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert words in captured.err
    assert captured.err.count("\n") == 1
