"""Histograms of importances and of their ratios: what is counted, drawn and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from theriac.errors import BadInput
from theriac.search.report.figures.canvas import INK
from theriac.search.report.figures.importances import importance_figure
from theriac.tests.drawn_figures import check_texts, legend_of, texts
from theriac.unlearning.dampening import dampen


def two(size: int = 1000) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {"forget": draw.lognormal(-4, 2, size), "retain": draw.lognormal(-3, 1.5, size)}


def test_both_axes_are_logarithmic_and_alpha_is_marked(tmp_path: Path, figures: list[Figure]) -> None:
    sets: Any = two()
    path = importance_figure(tmp_path / "x.png", **sets, alpha=3.0, about="digits, XLF, share 0.2")
    assert path.read_bytes().startswith(b"\x89PNG")
    for panel in figures[0].axes:
        assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    (mark,) = [line for line in figures[0].axes[1].lines if line.get_color() == INK]
    assert list(np.asarray(mark.get_xdata())) == [3.0, 3.0]
    assert "digits, XLF, share 0.2" in texts(figures[0])
    check_texts(figures[0])


def test_what_alpha_dampens_is_what_dampening_dampens(tmp_path: Path, figures: list[Figure]) -> None:
    sets = two()
    sets["forget"][:5], sets["retain"][3:8] = 0.0, 0.0
    importance_figure(tmp_path / "x.png", forget=sets["forget"], retain=sets["retain"], alpha=3.0)
    forget, retain = ({"w": torch.tensor(sets[name])} for name in ("forget", "retain"))
    before = {"w": torch.ones(1000, dtype=torch.float64)}
    changed = int((dampen(before, forget, retain, 3.0)["w"] != 1).sum())
    legend = legend_of(figures[0])
    assert f"alpha = 3: {changed} of 1,000 are dampened" in legend
    assert "importance, forget (5 of 1,000 are 0)" in legend
    assert "ratio forget / retain (2 are 0 / 0, 3 are x / 0, 3 are 0 / x)" in legend


def test_every_positive_value_is_in_a_bin(tmp_path: Path, figures: list[Figure]) -> None:
    importance_figure(tmp_path / "x.svg", forget=torch.ones(3, 2), retain=2 * torch.ones(6), alpha=1e9)
    low, high = figures[0].axes[1].get_xlim()
    assert low < 0.5 < 1e9 < high
    importance_figure(tmp_path / "y.pdf", forget=np.zeros(3), retain=np.zeros(3))
    assert len(figures) == 2


@pytest.mark.parametrize(
    ("forget", "retain", "message"),
    [
        ([], [], "no importances of forget to draw"),
        ([1.0], [1.0, 2.0], r"one shape, these have forget \(1,\) and retain \(2,\)"),
        ([1.0, -1.0], [1.0, 2.0], "importances of forget are finite and not negative"),
        ([1.0, 1.0], [1.0, float("nan")], "importances of retain are finite and not negative"),
    ],
)
def test_wrong_importances_are_refused(tmp_path: Path, forget: Any, retain: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        importance_figure(tmp_path / "x.png", forget=forget, retain=retain)
