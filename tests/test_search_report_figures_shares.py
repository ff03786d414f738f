"""Figures against the share found: which there are, what a line pools, what is said of what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import count, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from theriac.search.report.figures.intervals import mean_of, student
from theriac.search.report.figures.shares import MOST_LINES, MOST_SIZES, share_drawings
from theriac.search.report.figures.styles import PALETTE, STYLES
from theriac.tests import drawn_figures
from theriac.tests.drawn_figures import Row, check_texts, legend_of, notes_of, points_of, texts

METHODS = (
    *(("ssd", "ptn", "sample"), ("lf", "ptn", "sample"), ("xlf", "ptn", "sample")),
    *(("ssd", "grid", "sample"), ("eu", None, None), ("none", None, None)),
)
SHARES = ("one_shot", *(f"{number / 10:g}" for number in range(1, 11)))
KEYS = count()


def cell(method: str = "xlf", share: str = "0.5", seed: int = 0, **columns: Any) -> Row:
    plain = method in ("eu", "none")
    kind = {"search": None if plain else "ptn", "granularity": None if plain else "sample"}
    return {
        **{"key": str(next(KEYS)), "dataset": "digits", "model": "resnet9", "attack": "badnets", **kind},
        **{"manipulated": 100, "method": method, "share": share, "seed": seed, "status": "stopped"},
        **{"healed": 90.0 + seed, "healed_raw": 0.8 + seed / 100, "damage": -0.5 - seed},
        **columns,
    }


def settings(**values: Any) -> str:
    return json.dumps({"rho": 0.2, "s_step": 1.1, **values})


def full(**columns: Any) -> list[Row]:
    return [
        cell(method, share, seed, search=search, granularity=granularity, manipulated=size, **columns)
        for (method, search, granularity), share, seed, size in product(
            METHODS, SHARES, (0, 1), (100, 500, 1000)
        )
    ]


def draw(directory: Path, rows: Sequence[Row], ending: str = "png") -> tuple[Path, ...]:
    return drawn_figures.draw(share_drawings, directory, rows, ending=ending)


def lines(panel: Axes, method: str) -> list[list[tuple[float, float]]]:
    """The lines through the points of a method, one-shot and the rest; places rounded to the share's."""
    colour = STYLES[method].colour
    found = [line for line in panel.lines if line.get_color() == colour and line.get_marker() == "None"]
    points = [np.asarray(line.get_xydata()) for line in found]
    return [[(float(round(x)), float(y)) for x, y in places] for places in points]


def test_one_figure_for_each_setup_and_one_column_for_each_size(
    tmp_path: Path, figures: list[Figure]
) -> None:
    rows = [*full(), cell(granularity="batch"), cell(dataset="cifar10", model="timm/vit b", manipulated=7)]
    paths = draw(tmp_path / "new", rows)
    assert [path.name for path in paths] == [
        "cifar10-timm_vit_b-badnets-sample.png",
        "digits-resnet9-badnets-sample.png",
        "digits-resnet9-badnets-batch.png",
    ]
    with Image.open(paths[1]) as image:
        assert image.size == (1440, 820)
    titles = [panel.get_title(loc="left") for panel in figures[1].axes[:3]]
    assert titles == ["|S_m| = 100", "|S_m| = 500", "|S_m| = 1,000"]
    assert legend_of(figures[1]) == ["PTN-XLF", "PTN-LF", "PTN-SSD", "Grid-SSD", "EU", "None"]
    assert legend_of(figures[2]) == ["PTN-XLF", "EU", "None"]
    assert "digits, resnet9, badnets, batch" in texts(figures[2])


def test_names_that_collide_are_numbered(tmp_path: Path) -> None:
    paths = draw(tmp_path, [cell(model="a/b"), cell(model="a b")])
    assert [path.name for path in paths] == [
        "digits-a_b-badnets-sample.png",
        "digits-a_b-badnets-sample-2.png",
    ]


def test_points_are_means_over_seeds_with_the_interval_of_student(
    tmp_path: Path, figures: list[Figure]
) -> None:
    draw(tmp_path, [cell(share=share, seed=k) for share in ("1.0", "0.1", "one_shot") for k in (0, 1, 2)])
    above, below = figures[0].axes
    assert lines(above, "PTN-XLF") == [[(0, 91)], [(1, 91), (2, 91)]]
    assert [y for _, y in lines(below, "PTN-XLF")[1]] == [-1.5, -1.5]
    assert [label.get_text() for label in below.get_xticklabels()] == ["one\nshot", "10", "100"]
    bars = [part for bar in above.collections for part in bar.get_segments()]  # type: ignore[attr-defined]
    assert len(bars) == 3
    half = student(2) / 3**0.5
    assert np.allclose([sorted(bar[:, 1]) for bar in bars], [91 - half, 91 + half])
    assert "bars their 95 % intervals (Student's t" in notes_of(figures[0])
    assert "n = 3 seeds" in notes_of(figures[0])


def test_intervals_are_those_of_a_table_of_student() -> None:
    printed = {1: 12.706, 2: 4.303, 5: 2.571, 9: 2.262, 12: 2.179, 30: 2.042, 100: 1.984}
    assert {n: round(student(n), 3) for n in printed} == pytest.approx(printed, abs=1.5e-3)
    assert mean_of([3.0])[:3] == (3.0, 3.0, 3.0)
    assert mean_of([5.0, 5.0])[:3] == (5.0, 5.0, 5.0)


def test_a_number_of_seeds_that_differs_is_said(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(share=share, seed=k) for share in ("0.1", "0.2") for k in (0, 1)]
    draw(tmp_path, [*rows, cell("lf", share="0.1")])
    assert "n = 2 seeds, but for some points of PTN-LF (n = 1)" in notes_of(figures[0])
    assert len(figures[0].axes[0].collections) == 1  # a single seed has no interval
    others = [cell(name, share="0.1") for name in ("lf", "ssd", "rga", "npo")]
    draw(tmp_path, [*[cell(share=f"0.{k}", seed=s) for k in range(1, 9) for s in (0, 1)], *others])
    assert "n = 1 to 2 seeds" in notes_of(figures[1])


def test_a_seed_with_several_searches_counts_once(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(), cell(), cell(seed=2)])
    assert lines(figures[0].axes[0], "PTN-XLF") == [[(0, 91)]]
    assert "some points hold several searches of one seed, whose mean counts once" in notes_of(figures[0])


def test_settings_that_differ_are_lines_of_their_own_and_named(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(seed=k, settings=settings(s_step=step)) for step in (2.0, 1.01) for k in (0, 1)]
    draw(tmp_path, [*rows, cell("lf", settings=settings())])
    assert legend_of(figures[0]) == ["PTN-XLF, s_step 1.01", "PTN-XLF, s_step 2.0", "PTN-LF"]
    looks = {(line.get_color(), line.get_linestyle()) for line in figures[0].legends[0].get_lines()}
    assert len(looks) == 3


def test_setups_that_differ_are_figures_of_their_own_and_named(tmp_path: Path, figures: list[Figure]) -> None:
    recipe = json.dumps({"iterations": 2000}), json.dumps({"iterations": 4000})
    rows = [
        cell(setup="a", width=0.5, recipe=recipe[0]),
        cell(setup="b", width=1.0, recipe=recipe[1], seed=2),
        cell(setup="c", width=1.0, recipe=recipe[1], manipulated=500),
    ]
    paths = draw(tmp_path, rows)
    assert [path.name for path in paths] == [
        "digits-resnet9-badnets-width_0.5-sample.png",
        "digits-resnet9-badnets-width_1.0-sample.png",
    ]
    assert "digits, resnet9, badnets, width 0.5, recipe.iterations 2000, sample" in texts(figures[0])
    assert [panel.get_title(loc="left") for panel in figures[1].axes[:2]] == ["|S_m| = 100", "|S_m| = 500"]


def test_setups_that_rows_do_not_spell_out_are_told_apart_by_their_hash(tmp_path: Path) -> None:
    paths = draw(tmp_path, [cell(setup="aaaaaaaaaa"), cell(setup="bbbbbbbbbb", seed=1)])
    assert [path.name for path in paths] == [
        "digits-resnet9-badnets-sample.png",
        "digits-resnet9-badnets-setup_bbbbbbbb-sample.png",
    ]
    older = draw(tmp_path, [cell(target=0), cell(target=0, seed=1), cell(target=3)])
    assert [path.name for path in older] == [
        "digits-resnet9-badnets-target_0-sample.png",
        "digits-resnet9-badnets-target_3-sample.png",
    ]


def test_healed_and_healed_raw_never_share_an_axis(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(share=share, manipulated=size) for share in ("0.1", "0.2") for size in (100, 200, 500)]
    rows[-1]["healed"] = None
    draw(tmp_path, rows)
    first, second, third = figures[0].axes[:3]
    assert first.get_ylabel() == second.get_ylabel() == "healed, % of a clean model"
    assert [y for _, y in lines(first, "PTN-XLF")[-1]] == [90.0, 90.0]
    assert third.get_ylabel() == "healed_raw, % (no clean reference)"
    assert [y for _, y in lines(third, "PTN-XLF")[-1]] == [80.0, 80.0]
    together = first.get_shared_y_axes()
    assert together.joined(first, second)
    assert not together.joined(first, third)
    assert together.joined(*figures[0].axes[3:5])


def test_ends_of_searches_have_marks_of_their_own(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(share="0.1"), cell(share="0.2", status="no_stop"), cell(share="0.3", status="collapsed")]
    draw(tmp_path, [*rows, cell(share="0.3", seed=1)])
    above = figures[0].axes[0]
    colour, marker, _ = STYLES["PTN-XLF"]
    assert [round(x) for x, _ in points_of(above, colour, marker, "white")] == [1]
    assert [round(x) for x, _ in points_of(above, colour, marker, colour)] == [0, 2]
    (cross,) = [line for line in above.lines if line.get_marker() == "x"]
    assert [round(x) for x in np.asarray(cross.get_xdata())] == [2]
    assert legend_of(figures[0])[-2:] == ["no stop", "collapsed"]
    draw(tmp_path, rows[:1])
    assert legend_of(figures[1]) == ["PTN-XLF"]


def test_half_a_sweep_is_drawn_and_failures_are_counted(tmp_path: Path, figures: list[Figure]) -> None:
    blank: dict[str, Any] = {"healed": None, "healed_raw": None, "damage": None}
    rows = [cell(), cell("lf", status="failed", **blank), cell("ssd", status="gate_failed", **blank)]
    draw(tmp_path, [*rows, cell("lf", share="0.9", manipulated=500)])
    assert "2 of 4 cells failed and are not shown" in notes_of(figures[0])
    assert len(figures[0].axes) == 4


def test_many_sizes_and_many_lines_are_figures_of_their_own(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(manipulated=size) for size in range(1, 2 * MOST_SIZES)])
    assert [len(figure.axes) for figure in figures] == [2 * (MOST_SIZES - 1), 2 * MOST_SIZES]
    rows = [cell(settings=settings(rho=k / 100)) for k in range(MOST_LINES + 1)]
    draw(tmp_path, rows)
    assert sum(len(legend_of(figure)) for figure in figures[2:]) == MOST_LINES + 1


def test_great_damage_does_not_flatten_small_damage(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(), cell("lf")])
    draw(tmp_path, [cell(), cell("lf", damage=-80.0)])
    assert [figure.axes[1].get_yscale() for figure in figures] == ["linear", "symlog"]
    low, high = figures[1].axes[1].get_ylim()
    assert low < -80 < 0 < high


def test_healing_above_a_clean_model_stays_inside(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(healed=130.0)])
    assert figures[0].axes[0].get_ylim()[1] > 130


def test_a_line_under_another_is_still_seen(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(method, share) for method in ("lf", "xlf") for share in SHARES[1:]])
    above = figures[0].axes[0]
    found = {line.get_color(): line for line in above.lines if line.get_marker() == "None"}
    wide, narrow = (found[STYLES[name].colour] for name in ("PTN-LF", "PTN-XLF"))
    assert wide.get_linewidth() > 2 * narrow.get_linewidth()
    assert narrow.get_zorder() > wide.get_zorder()
    places = [set(np.asarray(line.get_xdata())) for line in above.lines if line.get_marker() in ("o", "s")]
    assert not places[0] & places[1]  # their markers lie beside each other


def test_lines_that_differ_are_of_one_width(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(name, share, healed=60.0) for name in ("lf", "ssd") for share in SHARES[1:]]
    draw(tmp_path, [*rows[:10], *({**row, "healed": 90.0} for row in rows[10:])])
    found = [line for line in figures[0].axes[0].lines if line.get_marker() == "None"]
    assert len({line.get_linewidth() for line in found if len(np.asarray(line.get_xdata())) > 5}) == 1


def test_methods_of_the_future_get_a_line(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell("newest"), cell(uses_oracle=True)])
    assert legend_of(figures[0]) == ["PTN-XLF*", "PTN-NEWEST"]
    handles = figures[0].legends[0].get_lines()
    assert {str(line.get_color()) for line in handles} <= set(PALETTE)


def test_baselines_alone_are_a_figure(tmp_path: Path) -> None:
    (path,) = draw(tmp_path, [cell("eu"), cell("none")])
    assert path.name == "digits-resnet9-badnets-baselines.png"


@pytest.mark.parametrize("rows", [[], [cell(status="failed")], [cell(damage=None)]])
def test_without_a_scored_cell_there_is_nothing_to_draw(rows: list[Row]) -> None:
    assert share_drawings(drawn_figures.whole("searches", rows)) == []


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_figures_come_in_three_formats(tmp_path: Path, ending: str, magic: bytes) -> None:
    (path,) = draw(tmp_path, [cell()], ending)
    assert path.read_bytes().startswith(magic)


@pytest.mark.parametrize("sizes", [1, 2, 3])
def test_no_text_overlaps_and_none_is_small(tmp_path: Path, figures: list[Figure], sizes: int) -> None:
    rows = [row for row in full(damage=-40.0) if row["manipulated"] in (100, 500, 1000)[:sizes]]
    rows += [cell(status="no_stop"), cell(status="collapsed"), cell(status="failed", healed_raw=None)]
    draw(tmp_path, rows)
    check_texts(figures[0])


def test_long_names_of_lines_do_not_leave_the_figure(tmp_path: Path, figures: list[Figure]) -> None:
    alphas = [[float(k) for k in range(n)] for n in (9, 10, 11)]
    rows = [cell(settings=settings(alphas=some, rho=k), search="grid") for k, some in enumerate(alphas)]
    draw(tmp_path, [*rows, *full()[::7]])
    check_texts(figures[0])
    assert len(set(legend_of(figures[0]))) == len(legend_of(figures[0]))
