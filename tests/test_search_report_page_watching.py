"""`theriac report --watch`: the page follows a sweep, and the last one stays still."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from theriac.cluster.cli import run
from theriac.cluster.commands.reporting import checked_page
from theriac.errors import BadInput
from theriac.search.report import SWEEPS, SweepProgress
from theriac.search.report.page import pictures, watch_report, watching
from theriac.search.store import ResultsStore
from theriac.tests.report_pages import row, written

REFRESH = 'http-equiv="refresh"'


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MOST_DRAWN", 0)


def progress(folder: Path, state: str, done: int) -> None:
    now = datetime.now(UTC)
    fixed = {"name": "small", "sweep": "s", "run": "r", "host": "here", "pid": 1, "workers": 1}
    told = SweepProgress(**fixed, started_at=now, updated_at=now, state=state, cells_total=3, cells_done=done)
    (folder / SWEEPS).mkdir(exist_ok=True)
    told.write(folder / SWEEPS / "s.json")


def test_the_page_follows_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, page = written(tmp_path / "results", []), tmp_path / "page.html"
    progress(folder, "running", 0)
    pages: list[str] = []
    events = iter([lambda: None, lambda: ResultsStore(folder).append("searches", [row("a")])])

    def sleep(seconds: float) -> None:
        pages.append(page.read_text())
        next(events, lambda: progress(folder, "finished", 1))()

    monkeypatch.setattr(watching, "sleep", sleep)
    said: list[str] = []
    assert watch_report(folder, to=page, told=said.append) == page
    assert [text.count(REFRESH) for text in pages] == [1] * len(pages)
    assert "No cell has finished yet." in pages[0]
    assert REFRESH not in page.read_text()
    assert "1 cell with a result" in page.read_text()
    assert said[0].endswith("0 rows, a sweep is running")
    assert said[-1].endswith("1 rows")


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    folder = written(tmp_path, [row("a")])
    progress(folder, "running", 1)
    before = watching.results_state((folder,))
    progress(folder, "running", 1)
    assert watching.results_state((folder,)) == before
    progress(folder, "running", 2)
    assert watching.results_state((folder,)) != before


def test_ctrl_c_leaves_a_page_that_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path, [row("a")])
    progress(folder, "running", 1)

    def interrupt(seconds: float) -> None:
        assert REFRESH in (folder / "report.html").read_text()
        raise KeyboardInterrupt

    monkeypatch.setattr(watching, "sleep", interrupt)
    assert run(["report", str(folder), "--watch"]) == 130
    assert REFRESH not in (folder / "report.html").read_text()
    assert "shows the results as they were" in capsys.readouterr().err


def test_the_command_names_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = written(tmp_path / "results", [row("a")])
    assert run(["report", str(folder)]) == 0
    assert capsys.readouterr().out.split() == [str(folder / "report.html")]
    assert run(["report", str(folder), str(folder), "--to", str(tmp_path / "both.html")]) == 0
    assert (tmp_path / "both.html").exists()
    assert run(["report", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize(("name", "better"), [("page.pdf", "page.html"), ("folder", "folder/report.html")])
def test_what_is_no_page_is_refused(tmp_path: Path, name: str, better: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadInput, match=f"{better}$"):
        checked_page(tmp_path / name)
