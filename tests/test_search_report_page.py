"""The page of `theriac report`: what it says, that it reaches nowhere, and that names stay names."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from theriac.errors import BadInput
from theriac.search.report.page import line_rows, pictures, read_results, report_page, write_report
from theriac.search.report.page.rendering import embedded, render_page
from theriac.search.report.page.report import page_sections
from theriac.search.report.page.svg_markup import svg_markup
from theriac.search.report.result_table import MISSING
from theriac.tests.filled_results import filled_rows, write
from theriac.tests.report_pages import EVIL, Page, evil_rows, row, written

OUTSIDE = re.compile(r"https?://|@import|url\((?!#)", re.IGNORECASE)


@pytest.fixture(scope="module")
def table1(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page about a whole sweep, with one figure of each kind."""
    folder = write(tmp_path_factory.mktemp("results"), filled_rows("potion-table1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "MOST_FIGURES", 1)
        return report_page(read_results(folder))


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_DRAWN", 0)


def behind(page: str) -> dict:
    (text,) = re.findall(r'<script type="application/json" id="behind">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_a_page_reaches_nowhere(table1: str) -> None:
    assert not OUTSIDE.search(table1)
    for tag, name, value in Page(table1).attributes:
        assert name not in ("src", "srcset", "action", "ping", "poster", "data"), (tag, name, value)
        if name.endswith("href"):
            assert value.startswith(("#", "data:,", "data:image/png;base64,")), (tag, value)
    assert "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'" in table1
    assert 'http-equiv="refresh"' not in table1


def test_links_inside_the_page_lead_somewhere(table1: str) -> None:
    attributes = Page(table1).attributes
    names = [value for _, name, value in attributes if name == "id"]
    assert len(names) == len(set(names))
    assert {value[1:] for _, name, value in attributes if name == "href" and value[0] == "#"} <= set(names)


def test_a_page_has_its_sections(table1: str) -> None:
    ids = re.findall(r'<section id="(\w+)">', table1)
    assert ids == ["summary", "papers", "averages", "figures", "failures", "provenance", "missing"]
    assert "potion-table1" in table1
    assert "another protocol" not in table1
    assert Page(table1).names.count("svg") >= 2
    assert "heals best in" in table1


def test_every_line_opens_its_rows(table1: str, tmp_path: Path) -> None:
    data = behind(table1)
    assert sum(data["counts"]) == sum(map(len, data["rows"])) == 198
    assert data["titles"][:2] == ["key", "seed"]
    assert all(len(line) == len(data["titles"]) for rows in data["rows"] for line in rows)


@pytest.mark.usefixtures("undrawn")
def test_rows_behind_a_line_are_its_own(tmp_path: Path) -> None:
    rows = [row("b", seed=1, healed=70.0), row("c", method="lf"), row("a")]
    page = report_page(read_results(written(tmp_path, rows)))
    data = behind(page)
    opened = [{line[0] for line in rows} for rows in data["rows"]]
    order = re.findall(r"PTN-(LF|XLF)</td>", page)
    assert dict(zip(order, opened, strict=True)) == {"LF": {"c"}, "XLF": {"a", "b"}}


@pytest.mark.usefixtures("undrawn")
def test_names_from_files_are_never_markup(tmp_path: Path) -> None:
    runs = [{"key": text, "command": text, "device": text, "git_commit": text, "versions": json.dumps(
        {"torch": text})} for text in EVIL]  # fmt: skip
    page = report_page(read_results(written(tmp_path, evil_rows(), runs)))
    read = Page(page)
    assert {"img", "b", "svg"}.isdisjoint(read.names)
    assert read.names.count("script") == 2
    assert not [one for one in read.attributes if one[1].startswith("on")]
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200f\u2028\u2029]", page)
    assert "49" not in re.findall(r"<td>([^<]*\{\{[^<]*)</td>", page)[0]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert any("<script>" in text for rows in behind(page)["rows"] for line in rows for text in line)


def test_embedded_data_cannot_end_its_element() -> None:
    text = embedded({"</script>": ["<!--", "a&b", "\u2028\u2029", "]]>"]})
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(text) == {"</script>": ["<!--", "a&b", "\\u2028\\u2029", "]]>"]}


def test_a_figure_loses_what_could_act(tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:x="http://www.w3.org/1999/xlink" viewBox="0 0 10 5" '
        'onload="alert(1)"><script>alert(1)</script><style>@import "x";</style><metadata>m</metadata>'
        '<g id="a" style="fill:url(http://outside)" onclick="alert(1)"><use x:href="#a"/>'
        '<use x:href="http://outside#a"/><image x:href="https://outside/a.png"/>'
        '<path d="M 0 0" clip-path="url(#a)"/><foreignObject><b>b</b></foreignObject></g></svg>'
    )
    markup = svg_markup(path, '"><b>', "f0-")
    assert set(Page(markup).names) == {"svg", "g", "use", "image", "path"}
    assert 'clip-path="url(#f0-a)"' in markup
    assert 'href="#f0-a"' in markup
    assert not re.search("outside|alert|import|http", markup)


@pytest.mark.usefixtures("undrawn")
def test_a_page_is_bounded_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_rows, "MOST_LINES", 5)
    monkeypatch.setattr(line_rows, "MOST_ROWS", 8)
    monkeypatch.setattr(line_rows, "MOST_ROWS_OF_A_LINE", 2)
    rows = [
        row(f"{k}-{seed}", seed=seed, manipulated=k, setup=f"{k}") for k in range(1, 13) for seed in range(3)
    ]
    page = report_page(read_results(written(tmp_path / "a b", rows)))
    data = behind(page)
    assert data["counts"] == [3] * 5
    assert [len(rows) for rows in data["rows"]] == [2, 2, 2, 2, 0]
    assert "the first 5 of 12 lines; the other 7 are shown by: theriac table &#39;" in page
    assert "8 of 36 rows can be opened here" in page


@pytest.mark.usefixtures("undrawn")
def test_failures_are_grouped_and_counted(tmp_path: Path) -> None:
    failed = {"status": "failed", "error_class": "OSError", "error_message": "no space left"}
    rows = [row("a"), *(row(f"b{k}", **failed, seed=k) for k in range(3)), row("c", status="gate_failed")]
    grid = page_sections(read_results(written(tmp_path, rows)))["failures"]
    assert [[cell.text for cell in line[:4]] for line in grid.rows] == [
        ["3", "failed", "OSError", "no space left"],
        ["1", "gate_failed", MISSING, "no message was recorded"],
    ]


@pytest.mark.usefixtures("undrawn")
def test_versions_that_differ_are_pointed_out(tmp_path: Path) -> None:
    started = datetime(2026, 1, 2, tzinfo=UTC)
    runs = [
        {"key": name, "started_at": started, "versions": json.dumps({"torch": torch}), "command": "theriac x"}
        for name, torch in (("r", "2.8.0"), ("s", "2.9.1"))
    ]
    rows = [row(f"{k}", run=run, seed=k) for k, run in enumerate("rsst")]
    page = report_page(read_results(written(tmp_path, rows, runs)))
    assert "several versions of PyTorch: 2.9.1 (2 rows), 2.8.0 (1 row)" in page
    assert "1 row of no run that is recorded here" in page
    assert "2026-01-02 00:00:00 UTC" in page


@pytest.mark.usefixtures("undrawn")
def test_what_is_missing_is_what_status_counts(tmp_path: Path) -> None:
    from theriac.search.report import sweep_status
    from theriac.search.sweep import dump_sweep, load_sweep

    sweep = load_sweep("cifar10-small")
    write(tmp_path, filled_rows("cifar10-small", where=lambda task: task.cell.method != "xlf"))
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / f"{sweep.key}.yaml").write_text(dump_sweep(sweep))
    sections = page_sections(read_results(tmp_path))
    (status,) = sweep_status(tmp_path)
    missing = sum(int(line[1].text) for line in sections["missing"].rows)
    assert missing == status.to_go
    assert missing > 0
    assert {line[6].text for line in sections["missing"].rows} == {"PTN-XLF"}
    assert f"{status.done} of {status.total} cells done, {missing} missing" in sections["summary"].sweeps[1]


@pytest.mark.usefixtures("undrawn")
def test_rows_of_another_protocol_are_marked(tmp_path: Path) -> None:
    write(tmp_path, filled_rows("cifar10-small"))
    papers = page_sections(read_results(tmp_path))["papers"]
    assert {one.name for one in papers if one.loose} >= {"potion-table1"}


@pytest.mark.usefixtures("undrawn")
def test_the_best_is_told_of_what_can_be_compared(tmp_path: Path) -> None:
    rows = [
        *(row(f"x{k}", seed=k, healed=90.0 + k) for k in range(2)),
        *(row(f"l{k}", seed=k, method="lf", healed=85.0) for k in range(2)),
        *(row(f"o{k}", seed=k, method="lf", healed=99.0, uses_oracle=True) for k in range(2)),
        *(row(f"n{k}", seed=k, method="none", search=None, healed=99.0) for k in range(2)),
    ]
    said = page_sections(read_results(written(tmp_path, rows)))["summary"]
    assert said.best == (
        "digits, resnet9, badnets, |S_m| = 100: PTN-XLF (sample) heals best in one comparison, healed 90.5 % "
        "at a damage of -10.0 points (n = 2).",
    )
    assert said.caveats[0].startswith("1 line with an asterisk")
    assert said.caveats[1].startswith("4 of 4 lines stand on fewer than 6 rows (the fewest: 2)")


@pytest.mark.usefixtures("undrawn")
def test_a_page_is_written_whole_or_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "results", [row("a")])
    page = write_report(folder, to=tmp_path / "new" / "page.html")
    assert page.read_text().endswith("</html>")
    with pytest.raises(BadInput, match="holds no finished searches yet"):
        write_report(written(tmp_path / "empty", []), to=page)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        write_report(folder, to=tmp_path / "file" / "page.html")


@pytest.mark.usefixtures("undrawn")
def test_a_page_renews_itself_only_while_a_sweep_runs(tmp_path: Path) -> None:
    sections = page_sections(read_results(written(tmp_path, [row("a")])), refresh=5)
    assert '<meta http-equiv="refresh" content="5">' in render_page(sections)
    assert 'http-equiv="refresh"' not in render_page({**sections, "refresh": None})
