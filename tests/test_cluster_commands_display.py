"""What people and logs are shown of a sweep: the rendered text itself."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from theriac.cluster.commands.display import LineReporter, LiveReporter, live_reporter
from theriac.search.phase_progress import bars
from theriac.search.report.progress import Running, SweepProgress

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SCENARIO = "cifar10 resnet9 badnets |S_m| 500 seed 0"


def screen(width: int = 80) -> Console:
    """A terminal that nobody sees."""
    return Console(force_terminal=True, width=width, color_system=None, file=io.StringIO(), record=True)


def rendered(progress: Progress, width: int = 80) -> list[str]:
    """The lines that stand on a terminal now."""
    console = screen(width)
    console.print(progress.get_renderable(), end="")
    return console.export_text().splitlines()


def standing(**changes: Any) -> SweepProgress:
    values: dict[str, Any] = {
        "name": "digits",
        "sweep": "ab",
        "run": "r",
        "host": "h",
        "pid": 1,
        "started_at": NOW,
        "updated_at": NOW,
        "state": "running",
        "workers": 2,
        "cells_total": 40,
        "seconds": 100.0,
    }
    return SweepProgress(**{**values, **changes})


def at(worker: int, doing: str, done: int = 0, total: int | None = None, **changes: Any) -> Running:
    values: dict[str, Any] = {"node": "10.0.0.1", "scenario": SCENARIO, "method": None, "share": None}
    return Running(worker=worker, doing=doing, done=done, total=total, **{**values, **changes})


def test_a_sweep_on_a_narrow_terminal() -> None:
    with bars(screen()) as progress:
        reporter = LiveReporter(progress, lambda _: None)
        reporter.show(
            standing(
                cells_present=3,
                cells_done=5,
                cells_failed=2,
                lost_workers=1,
                configurations=12345,
                left_seconds=200.0,
                running=(
                    at(0, "training victim", 1000, 4000),
                    at(1, "search", 37, None, method="xlf", share="0.2"),
                ),
            )
        )
        first, second, third = rendered(progress)
    assert first.startswith("digits: 2 failed, 1 worker lost, 3 min 20 s left")
    assert "━" in first
    assert first.split()[-2] == "8/40"
    assert second.startswith("  worker 1: training victim, cifar10")
    assert second.split()[-2] == "1000/4000"
    assert third.startswith("  worker 2: search xlf at 0.2, cifar10")
    assert third.split()[-2] == "37"
    assert max(map(len, (first, second, third))) <= 80
    assert "None" not in first + second + third


def test_a_wide_terminal_shows_all() -> None:
    with bars(screen(140)) as progress:
        reporter = LiveReporter(progress, lambda _: None)
        reporter.show(standing(configurations=250, running=(at(0, "search", method="lf", share="one_shot"),)))
        first, second = rendered(progress, 140)
    assert "digits: 250 settings, 2.5/s" in first
    assert f"worker 1: search lf at one_shot, {SCENARIO}" in second


def test_nodes_are_named_where_there_are_several() -> None:
    with bars(screen(140)) as progress:
        reporter = LiveReporter(progress, lambda _: None)
        reporter.show(standing(running=(at(0, "search"), at(1, "search", node="10.0.0.2"))))
        both = rendered(progress, 140)
        reporter.show(standing(running=(at(0, "search"),)))
        one = rendered(progress, 140)
    assert "worker 1 (10.0.0.1): search" in both[1]
    assert "worker 2 (10.0.0.2): search" in both[2]
    assert "worker 1: search" in one[1]


def test_workers_come_and_go_and_keep_their_places() -> None:
    with bars(screen()) as progress:
        reporter = LiveReporter(progress, lambda _: None)
        seen = []
        for workers in ((0, 1), (1,), (0, 1), (1, 5), ()):
            reporter.show(standing(running=tuple(at(one, "search") for one in workers)))
            seen.append([line.split(":")[0].strip() for line in rendered(progress)[1:]])
    assert seen == [
        ["worker 1", "worker 2"],
        ["worker 2"],
        ["worker 1", "worker 2"],
        ["worker 2", "worker 6"],
        [],
    ]


def test_a_known_total_may_become_unknown_and_its_clock_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    with bars(screen()) as progress:
        monkeypatch.setattr(progress, "get_time", lambda: now[0])
        reporter = LiveReporter(progress, lambda _: None)
        reporter.show(standing(running=(at(0, "importances", 5, 9),)))
        now[0] = 65.0
        reporter.show(standing(running=(at(0, "importances", 6, 9),)))
        assert rendered(progress)[1].split()[-2:] == ["6/9", "0:01:05"]
        reporter.show(standing(running=(at(0, "scoring"),)))
        line = rendered(progress)[1]
    assert line.split()[-1] == "0:00:00"
    assert "/" not in line
    assert "scoring" in line


def test_names_are_not_markup() -> None:
    with bars(screen(140)) as progress:
        reporter = LiveReporter(progress, lambda _: None)
        reporter.show(standing(name="[red]mine[/]", running=(at(0, "[bold]x", scenario="[/y]"),)))
        first, second = rendered(progress, 140)
    assert first.startswith("[red]mine[/]: 2 workers")
    assert "[bold]x, [/y]" in second


def test_lines_go_above_the_bars_and_the_bars_vanish() -> None:
    console = screen()
    with live_reporter(console, lambda line: console.print(line, markup=False)) as reporter:
        assert isinstance(reporter, LiveReporter)
        reporter.show(standing(state="finishing"))
        reporter.say("finishing [what] has begun")
    text = console.export_text()
    assert "digits: finishing, 2 workers" in text
    assert "finishing [what] has begun\n" in text
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[2K" in console.file.getvalue()  # what stood there is erased


def test_lines_where_nobody_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = [1000.0], list[str]()
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    reporter = LineReporter(lines.append)
    for second in range(0, 181, 1):
        now[0] = 1000.0 + second
        reporter.show(standing(cells_done=second // 10, configurations=1, left_seconds=90.0))
    reporter.say("something")
    reporter.show(standing(state="finished", cells_done=40, cells_failed=1, configurations=1))
    assert lines == [
        "digits: running, 6 of 40 cells, 1 min 30 s left, 1 setting, 0.0/s",
        "digits: running, 12 of 40 cells, 1 min 30 s left, 1 setting, 0.0/s",
        "digits: running, 18 of 40 cells, 1 min 30 s left, 1 setting, 0.0/s",
        "something",
        "digits: finished, 40 of 40 cells, 1 failed, 1 setting, 0.0/s",
    ]


def test_a_file_gets_lines_and_no_bars() -> None:
    console, lines = Console(file=io.StringIO(), force_terminal=False), list[str]()
    with live_reporter(console, lines.append) as reporter:
        assert isinstance(reporter, LineReporter)
        reporter.show(standing(state="interrupted"))
    assert lines == ["digits: interrupted, 0 of 40 cells, 2 workers"]
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""
