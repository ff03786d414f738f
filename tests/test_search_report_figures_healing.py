"""Healed against damage: a point for each cell, the aim, and a closer look where it shows more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from theriac.search.report.figures.canvas import INK
from theriac.search.report.figures.healing import AIM, healing_drawings
from theriac.search.report.figures.points import MANY
from theriac.search.report.figures.styles import STYLES
from theriac.tests import drawn_figures
from theriac.tests.drawn_figures import Row, check_texts, legend_of, points_of


def search(key: str = "a", **columns: Any) -> Row:
    return {
        **{"key": key, "dataset": "cifar10", "model": "resnet9", "attack": "badnets", "manipulated": 500},
        **{"seed": 0, "share": "0.1", "method": "xlf", "granularity": "sample", "search": "guarded"},
        **{"status": "stopped", "damage": -0.23, "healed": 99.2, "healed_raw": 0.82, **columns},
    }


def heal(directory: Path, rows: list[Row]) -> tuple[Path, ...]:
    return drawn_figures.draw(healing_drawings, directory, rows)


def points(panel: Axes, method: str, face: str | None = None) -> set[tuple[float, float]]:
    colour, marker, _ = STYLES[method]
    return set(points_of(panel, colour, marker, face))


def test_healed_is_drawn_against_damage_and_the_aim_is_boxed(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [
        search(),
        search("b", search="ptn", healed=91.0, damage=-1.5),
        search("c", search="ptn", healed=40.0, damage=-60.0, status="collapsed"),
        search("d", search="ptn", method="ssd", healed=17.0, damage=0.0, status="no_stop"),
        search("e", status="failed", healed=50.0),
    ]
    (path,) = heal(tmp_path, rows)
    assert path.name == "healed-damage-cifar10-resnet9-badnets.png"
    whole, close = figures[0].axes
    assert points(whole, "Guarded-XLF") == {(-0.23, 99.2)}
    assert points(whole, "PTN-XLF") == {(-1.5, 91.0), (-60.0, 40.0)}
    assert points(whole, "PTN-SSD", "white") == {(0.0, 17.0)}
    assert points_of(whole, INK, "x") == [(-60.0, 40.0)]
    assert (whole.get_xscale(), close.get_xscale()) == ("symlog", "linear")
    for panel in (whole, close):
        (box,) = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
        assert (box.get_y(), box.get_x()) == AIM
    legend = legend_of(figures[0])
    assert legend[:5] == ["Guarded-XLF", "PTN-XLF", "PTN-SSD", "no stop", "collapsed"]
    assert "healed ≥ 98 %, damage ≥ -0.5 pp" in legend
    check_texts(figures[0])


def test_healing_is_never_mixed_and_has_no_box_without_a_reference(
    tmp_path: Path, figures: list[Figure]
) -> None:
    heal(tmp_path, [search(), search("b", healed=None, healed_raw=0.6, damage=-2.0)])
    (panel,) = figures[0].axes
    assert panel.get_ylabel() == "healed_raw, % (no clean reference)"
    assert sorted(y for _, y in points(panel, "Guarded-XLF")) == [60.0, 82.0]
    assert not panel.patches


@pytest.mark.parametrize(("healed", "panels"), [((99.0, 97.0), 1), ((20.0, 30.0), 1), ((99.0, 30.0), 2)])
def test_a_closer_look_only_where_it_shows_more(
    tmp_path: Path, figures: list[Figure], healed: tuple[float, float], panels: int
) -> None:
    heal(tmp_path, [search(key, healed=value) for key, value in zip("ab", healed, strict=True)])
    assert len(figures[0].axes) == panels


def test_one_figure_for_each_attack_and_setup_and_none_of_what_failed(tmp_path: Path) -> None:
    rows = [search(), search("b", attack="a/sine"), search("c", attack="wanet", status="failed")]
    names = [path.name for path in heal(tmp_path, rows)]
    assert names == ["healed-damage-cifar10-resnet9-a_sine.png", "healed-damage-cifar10-resnet9-badnets.png"]
    assert heal(tmp_path, rows[2:]) == ()
    names = [path.stem for path in heal(tmp_path, [search(width=0.5), search("b", width=1.0)])]
    assert [name.rpartition("-")[2] for name in names] == ["width_0.5", "width_1.0"]


def test_many_cells_are_few_objects_and_pixels_in_a_vector_file(
    tmp_path: Path, figures: list[Figure]
) -> None:
    heal(tmp_path, [search(str(k), healed=20.0 + k / 100) for k in range(MANY + 1)])
    (line,) = [line for line in figures[0].axes[0].lines if line.get_marker() == "*"]
    assert len(np.asarray(line.get_xydata())) == MANY + 1
    assert line.get_rasterized()
