"""Seconds by phase: what a bar stacks, and where the victim would dwarf all else."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from theriac.search.report.figures.times import MOST_BARS, PHASES, time_drawings
from theriac.tests import drawn_figures
from theriac.tests.drawn_figures import Row, check_texts, legend_of, notes_of

KEYS = count()


def cell(method: str = "xlf", share: str = "0.5", seed: int = 0, **columns: Any) -> Row:
    return {
        **{"key": str(next(KEYS)), "dataset": "digits", "model": "resnet9", "attack": "badnets"},
        **{"manipulated": 100, "method": method, "search": "ptn", "granularity": "sample", "share": share},
        **{"seed": seed, "status": "stopped", "healed_raw": 0.8, "damage": -0.5, "seconds_victim": 4.0},
        **{"seconds_importance": 2.0 + seed, "seconds_search": 1.0, "seconds_evaluation": 0.5, **columns},
    }


def draw(directory: Path, rows: list[Row]) -> list[str]:
    return [path.stem for path in drawn_figures.draw(time_drawings, directory, rows)]


def bars(panel: Axes) -> list[list[tuple[float, float]]]:
    """Phase by phase: where each bar begins, and how long it is."""
    stacks = [one for one in panel.containers if isinstance(one, BarContainer)]
    return [[(bar.get_x(), bar.get_width()) for bar in stack.patches] for stack in stacks]


def test_phases_are_stacked_and_averaged_over_seeds(tmp_path: Path, figures: list[Figure]) -> None:
    names = draw(tmp_path, [cell(), cell(seed=2), cell("none", search=None, granularity=None)])
    assert names == ["times-digits-resnet9-badnets-100"]
    (panel,) = figures[0].axes
    assert [tick.get_text() for tick in panel.get_yticklabels()] == ["PTN-XLF, sample", "None"]
    assert [stack[0] for stack in bars(panel)] == [(0, 4), (4, 3), (7, 1), (8, 0.5)]
    assert legend_of(figures[0]) == [label for label, _, _ in PHASES.values()]
    assert notes_of(figures[0]) == "bars are means over 2 seeds"
    assert panel.get_xlim()[1] > 8.5
    check_texts(figures[0])


def test_a_victim_that_takes_long_has_the_methods_beside_it(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(share=share, seconds_victim=400.0) for share in ("0.1", "1.0", "one_shot")]
    draw(tmp_path, rows)
    assert len(figures[0].axes) == 6
    whole, methods = figures[0].axes[:2]
    assert [panel.get_title(loc="left") for panel in (whole, methods)] == ["one-shot", "without the victim"]
    assert [stack[0] for stack in bars(methods)] == [(0, 2), (2, 1), (3, 0.5)]
    assert methods.get_xlim()[1] < 5
    check_texts(figures[0])


def test_bars_of_all_shares_fit(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(share="0.1"), cell(share="1.0", seconds_search=30.0)])
    assert all(panel.get_xlim()[1] > 36.5 for panel in figures[0].axes)


def test_what_is_left_out_is_said(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(share=share) for share in ("one_shot", "0.1", "0.2", "0.5", "1.0")])
    assert [panel.get_title(loc="left") for panel in figures[0].axes] == [
        "one-shot",
        "share 0.2",
        "share 1.0",
    ]
    assert "2 more shares are not shown" in notes_of(figures[0])
    draw(tmp_path, [cell(settings=f'{{"rho": {k}}}') for k in range(MOST_BARS + 1)])
    assert f"at most {MOST_BARS} bars a panel are shown" in notes_of(figures[1])


@pytest.mark.parametrize("columns", [dict.fromkeys(PHASES), {"status": "failed"}])
def test_without_times_there_is_no_figure(tmp_path: Path, columns: Row) -> None:
    assert draw(tmp_path, [cell(**columns)]) == []
