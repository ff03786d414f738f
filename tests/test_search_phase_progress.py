"""Progress of a healing: bars where people watch, a line a minute elsewhere."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

import theriac
from theriac.search import phase_progress as module
from theriac.search.phase_progress import BAR_WIDTH, PhaseBars, PhaseLines, bars, phase_progress
from theriac.tests.poisoned import poisoned_digits

POISONED = poisoned_digits()


def screen(width: int = 80) -> Console:
    """A terminal that nobody sees."""
    return Console(force_terminal=True, width=width, color_system=None, file=io.StringIO(), record=True)


def paper() -> Console:
    """A file."""
    return Console(file=io.StringIO(), force_terminal=False, width=200)


def written(console: Console) -> list[str]:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_one_bar_a_phase() -> None:
    with bars(screen()) as progress:
        phases = PhaseBars(progress)
        for done in range(3):
            phases("importances", done, 2)
        phases("search", 4, None)
        console = screen()
        console.print(progress.get_renderable(), end="")
    first, second = console.export_text().splitlines()
    assert (first.split()[0], first.split()[-2]) == ("importances", "2/2")
    assert (second.split()[0], second.split()[-2]) == ("search", "4")
    assert first.count("━") == BAR_WIDTH


def test_a_file_gets_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    console = paper()
    with phase_progress(console) as told:
        assert isinstance(told, PhaseLines)
        for now[0] in (0.0, 59.0, 61.0, 100.0, 125.0):
            told("importances of retain", int(now[0]) * 1000, 200_000)
        now[0] = 190.0
        told("search\x1b", 7, None)
    assert written(console) == [
        "importances of retain: 61,000 of 200,000, 1 min",
        "importances of retain: 125,000 of 200,000, 2 min",
        r"search\x1b: 7, 3 min",
    ]


def test_work_of_less_than_a_minute_says_nothing() -> None:
    console = paper()
    with phase_progress(console) as told:
        told("importances", 1, 2)
    assert written(console) == []


def test_bars_vanish_at_the_end() -> None:
    console = screen()
    with phase_progress(console) as told:
        assert isinstance(told, PhaseBars)
        told("importances", 1, 2)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().endswith("\x1b[2K")


def test_heal_shows_its_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(module, "LINE_SECONDS", 0.0)
    sets = POISONED.found, POISONED.rest
    theriac.heal(POISONED.model, *sets, search="grid", alphas=(5.0,), progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert any(line.startswith("search") for line in err.splitlines())
    theriac.heal(POISONED.model, *sets, search="grid", alphas=(5.0,), progress=False)
    assert capsys.readouterr().err == ""
