"""What settings do: a panel for each that was varied, a line for each method, all else the same."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from theriac.search.report.figures.sensitivity import sensitivity_drawings
from theriac.search.report.figures.styles import STYLES
from theriac.tests import drawn_figures
from theriac.tests.drawn_figures import Row, check_texts, legend_of, notes_of, texts

KEYS = count()


def cell(method: str = "xlf", seed: int = 0, *, columns: Row | None = None, **settings: Any) -> Row:
    text = json.dumps({"method": method, "rho": 0.2, "s_step": 1.1, **settings})
    return {
        **{"key": str(next(KEYS)), "dataset": "digits", "model": "resnet9", "attack": "badnets"},
        **{"manipulated": 100, "method": method, "search": "ptn", "granularity": "sample", "share": "0.5"},
        **{"seed": seed, "status": "stopped", "healed": 90.0 + seed, "healed_raw": 0.8, "damage": -0.5},
        **{"settings": text, **(columns or {})},
    }


def draw(directory: Path, rows: list[Row]) -> list[str]:
    return [path.stem for path in drawn_figures.draw(sensitivity_drawings, directory, rows)]


def line(panel: Axes, method: str) -> list[tuple[int, float]]:
    colour = STYLES[method].colour
    (found,) = [one for one in panel.lines if one.get_color() == colour and one.get_marker() == "None"]
    return [(round(x), y) for x, y in np.asarray(found.get_xydata()).tolist()]


def test_each_setting_that_was_varied_has_its_panels(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(m, k, s_step=step) for m in ("xlf", "lf") for k in (0, 2) for step in (2.0, 1.01, 1.1)]
    rows += [cell(seed=k, rho=0.4, columns={"healed": 50.0}) for k in (0, 2)]
    assert draw(tmp_path, rows) == ["sensitivity-digits-resnet9-badnets-100-0.5-sample"]
    rho, s_step, _, below = figures[0].axes
    assert [panel.get_xlabel() for panel in figures[0].axes[2:]] == ["rho", "s_step"]
    assert [tick.get_text() for tick in below.get_xticklabels()] == ["1.01", "1.1", "2"]
    assert line(s_step, "PTN-LF") == [(0, 91), (1, 91), (2, 91)]
    assert line(rho, "PTN-XLF") == [(0, 91), (1, 50)]
    assert "digits, resnet9, badnets, |S_m| = 100, share 0.5, sample" in texts(figures[0])
    assert "n = 2" in notes_of(figures[0])
    check_texts(figures[0])


def test_other_settings_are_never_pooled(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(s_step=step, rho=rho) for step in (1.1, 2.0) for rho in (0.1, 0.2)])
    labels = ["PTN-XLF, s_step 1.1", "PTN-XLF, s_step 2.0", "PTN-XLF, rho 0.1", "PTN-XLF, rho 0.2"]
    assert legend_of(figures[0]) == labels
    assert "setup" not in legend_of(figures[0])


def test_setups_sizes_and_shares_are_figures_of_their_own(tmp_path: Path) -> None:
    changes: list[Row] = [{}, {"share": "one_shot"}, {"manipulated": 5}, {"setup": "b"}]
    rows = [cell(rho=rho, columns={"setup": "a", **one}) for one in changes for rho in (0.1, 0.2)]
    assert len(draw(tmp_path, rows)) == 4


def test_without_several_values_there_is_no_figure(tmp_path: Path) -> None:
    bare: Row = {"settings": None}
    rows = [cell(), cell("lf", s_step=2.0), cell(columns=bare), cell(columns={"settings": "no JSON"})]
    assert draw(tmp_path, rows) == []
    assert draw(tmp_path, [cell(rho="auto"), cell(rho=0.1)]) == []
    assert draw(tmp_path, [cell(rho=0.1), cell(rho=0.2, columns={"status": "failed"})]) == []


def test_healing_is_one_measure(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(rho=0.1, columns={"healed": None}), cell(rho=0.2)])
    assert figures[0].axes[0].get_ylabel() == "healed_raw, % (no clean reference)"
    assert [y for _, y in line(figures[0].axes[0], "PTN-XLF")] == [80, 80]
