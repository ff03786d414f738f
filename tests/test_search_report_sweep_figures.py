"""The figures of a sweep: which there are, what a line shows, and what is said about what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count, product
from pathlib import Path
from typing import Any

import matplotlib.text
import numpy as np
import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from theriac.errors import BadInput
from theriac.search.report.sweep_figures import OTHERS, STYLES, sweep_figures
from theriac.search.store.schemas import SCHEMAS

STAMPS = {"written_at": datetime(2030, 1, 1, tzinfo=UTC), "schema_version": 1}
METHODS = (
    *(("ssd", "ptn", "sample"), ("lf", "ptn", "sample"), ("xlf", "ptn", "sample")),
    *(("ssd", "grid", "sample"), ("eu", None, None), ("none", None, None)),
)
SHARES = ("one_shot", *(f"{number / 10:g}" for number in range(1, 11)))
KEYS: Iterator[int] = count()


def cell(method: str = "xlf", share: str = "0.5", seed: int = 0, **columns: Any) -> dict[str, Any]:
    plain = method in ("eu", "none")
    kind = {"search": None if plain else "ptn", "granularity": None if plain else "sample"}
    return {
        **{"key": str(next(KEYS)), "dataset": "digits", "model": "resnet9", "attack": "badnets", **kind},
        **{"manipulated": 100, "method": method, "share": share, "seed": seed, "status": "stopped"},
        **{"healed": 90.0 + seed, "healed_raw": 0.8 + seed / 100, "damage": -0.5 - seed, **STAMPS},
        **columns,
    }


def full(**columns: Any) -> list[dict[str, Any]]:
    return [
        cell(method, share, seed, search=search, granularity=granularity, manipulated=size, **columns)
        for (method, search, granularity), share, seed, size in product(
            METHODS, SHARES, (0, 1), (100, 500, 1000)
        )
    ]


def draw(directory: Path, rows: list[dict[str, Any]]) -> tuple[Path, ...]:
    return sweep_figures(pa.Table.from_pylist(rows, schema=SCHEMAS["searches"]), directory)


def texts(item: Any) -> list[str]:
    return [text.get_text() for text in item.findobj(matplotlib.text.Text) if text.get_text()]


def lines(panel: Axes, method: str) -> list[tuple[list[float], list[float]]]:
    """The lines through the points of a method, one-shot and the rest, that are there."""
    found = [
        line for line in panel.lines if line.get_color() == STYLES[method][0] and line.get_marker() == "None"
    ]
    points = [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in found]
    return [([float(x) for x in xs], [float(y) for y in ys]) for xs, ys in points if len(xs)]


def markers(panel: Axes, method: str) -> list[Any]:
    return [
        line
        for line in panel.lines
        if line.get_color() == STYLES[method][0] and line.get_marker() == STYLES[method][1]
    ]


def test_one_figure_for_each_setting_and_one_column_for_each_size(
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
        assert image.size == (1440, 800)
    titles = [panel.get_title(loc="left") for panel in figures[1].axes[:3]]
    assert titles == ["|S_m| = 100", "|S_m| = 500", "|S_m| = 1,000"]
    legend = texts(figures[1].legends[0])
    assert legend == ["PTN-XLF", "PTN-LF", "PTN-SSD", "Grid-SSD", "EU", "None"]
    assert texts(figures[2].legends[0]) == ["PTN-XLF", "EU", "None"]
    assert "digits, resnet9, badnets, batch" in texts(figures[2])


def test_names_that_collide_are_numbered(tmp_path: Path) -> None:
    paths = draw(tmp_path, [cell(model="a/b"), cell(model="a b")])
    assert [path.name for path in paths] == [
        "digits-a_b-badnets-sample.png",
        "digits-a_b-badnets-sample-2.png",
    ]


def test_lines_are_means_over_seeds_with_bands(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(share=share, seed=seed) for share in ("1.0", "0.1", "one_shot") for seed in (0, 1, 2)]
    draw(tmp_path, rows)
    above, below = figures[0].axes
    ((x, y),) = [line for line in lines(above, "PTN-XLF") if len(line[0]) == 2]
    assert (x, y) == ([1.0, 2.0], [91.0, 91.0])
    ((x, y),) = [line for line in lines(below, "PTN-XLF") if len(line[0]) == 2]
    assert y == [-1.5, -1.5]
    (alone,) = [line for line in lines(above, "PTN-XLF") if len(line[0]) == 1]
    assert abs(alone[0][0]) < 0.5
    bands = [collection.get_paths()[0].get_extents() for collection in above.collections]
    assert {(box.y0, box.y1) for box in bands} == {(90.0, 92.0)}
    assert [label.get_text() for label in below.get_xticklabels()] == ["one\nshot", "10", "100"]


def test_healing_is_never_mixed_and_the_axis_says_which(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(share=share, manipulated=size) for share in ("0.1", "0.2") for size in (100, 500)]
    rows[-1]["healed"] = None
    draw(tmp_path, rows)
    first, second = figures[0].axes[:2]
    assert first.get_ylabel() == "healed, % of a clean model"
    assert lines(first, "PTN-XLF")[-1][1] == [90.0, 90.0]
    assert second.get_ylabel() == "healed_raw, % (no clean reference)"
    assert lines(second, "PTN-XLF")[-1][1] == [80.0, 80.0]


def test_ends_of_searches_have_marks_of_their_own(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [cell(share="0.1"), cell(share="0.2", status="no_stop"), cell(share="0.3", status="collapsed")]
    rows.append(cell(share="0.3", seed=1))
    draw(tmp_path, rows)
    above = figures[0].axes[0]
    assert [point.get_markerfacecolor() for point in markers(above, "PTN-XLF")] == [
        STYLES["PTN-XLF"][0],
        "white",
        STYLES["PTN-XLF"][0],
    ]
    (cross,) = [line for line in above.lines if line.get_marker() == "x"]
    assert list(np.asarray(cross.get_xdata())) == [2.0]
    assert texts(figures[0].legends[0])[-2:] == ["no stop", "collapsed"]
    draw(tmp_path, rows[:1])
    assert texts(figures[1].legends[0]) == ["PTN-XLF"]


def test_half_a_sweep_is_drawn_and_failures_are_counted(tmp_path: Path, figures: list[Figure]) -> None:
    blank: dict[str, Any] = {"healed": None, "healed_raw": None, "damage": None}
    rows = [cell(), cell("lf", status="failed", **blank), cell("ssd", status="gate_failed", **blank)]
    draw(tmp_path, [*rows, cell("lf", share="0.9", manipulated=500)])
    assert "2 of 4 cells failed and are not shown" in texts(figures[0])
    assert len(figures[0].axes) == 4


def test_several_settings_of_one_seed_are_pointed_out(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(), cell(seed=1)])
    draw(tmp_path, [cell(), cell()])
    notes = ["some points hold several cells of one seed" in " ".join(texts(figure)) for figure in figures]
    assert notes == [False, True]


def test_great_damage_does_not_flatten_small_damage(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(), cell("lf")])
    draw(tmp_path, [cell(), cell("lf", damage=-80.0)])
    assert [figure.axes[1].get_yscale() for figure in figures] == ["linear", "symlog"]
    low, high = figures[1].axes[1].get_ylim()
    assert low < -80 < 0 < high


def test_healing_above_a_clean_model_stays_inside(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell(healed=130.0)])
    assert figures[0].axes[0].get_ylim()[1] > 130


def test_methods_of_the_future_get_a_line(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [cell("newest"), cell(uses_oracle=True)])
    assert texts(figures[0].legends[0]) == ["PTN-NEWEST", "PTN-XLF*"]
    assert {line.get_color() for line in figures[0].axes[0].lines} & set(OTHERS)


def test_baselines_alone_are_a_figure(tmp_path: Path) -> None:
    (path,) = draw(tmp_path, [cell("eu"), cell("none")])
    assert path.name == "digits-resnet9-badnets-baselines.png"


@pytest.mark.parametrize("rows", [[], [cell(status="failed")], [cell(damage=None)]])
def test_without_a_scored_cell_there_is_nothing_to_draw(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(BadInput, match="no scored cell to draw; wait"):
        draw(tmp_path / "new", rows)
    assert not (tmp_path / "new").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be written"):
        draw(tmp_path / "file", [cell()])


def drawn_texts(figure: Figure) -> Iterator[matplotlib.text.Text]:
    """All but the labels of ticks outside the view, which matplotlib keeps and does not draw."""
    for panel in figure.axes:
        for axis in (panel.xaxis, panel.yaxis):
            low, high = axis.get_view_interval()
            ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
            yield from [tick.label1 for tick in ticks if tick.label1.get_visible() and tick.label1.get_text()]
    inside = {id(text) for panel in figure.axes for text in (*panel.xaxis.findobj(), *panel.yaxis.findobj())}
    labels = {id(axis.label) for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)}
    for text in figure.findobj(matplotlib.text.Text):
        known = isinstance(text, matplotlib.text.Text) and (id(text) not in inside or id(text) in labels)
        if known and text.get_text() and text.get_visible():
            yield text


@pytest.mark.parametrize("sizes", [1, 2, 3])
def test_no_text_overlaps_and_none_is_small(tmp_path: Path, figures: list[Figure], sizes: int) -> None:
    rows = [row for row in full(damage=-40.0) if row["manipulated"] in (100, 500, 1000)[:sizes]]
    rows += [cell(status="no_stop"), cell(status="collapsed"), cell(status="failed", healed_raw=None)]
    draw(tmp_path, rows)
    shown = list(drawn_texts(figures[0]))
    assert len(shown) > 20
    assert min(float(text.get_fontsize()) for text in shown) >= 10
    boxes = [(text.get_text(), text.get_window_extent()) for text in shown]
    clashes = [(a, b) for i, (a, one) in enumerate(boxes) for b, two in boxes[i + 1 :] if one.overlaps(two)]
    assert clashes == []
    whole = figures[0].bbox
    assert all(box.x0 >= whole.x0 and box.x1 <= whole.x1 and box.y0 >= whole.y0 for _, box in boxes)


def test_colours_and_markers_tell_the_methods_apart() -> None:
    for part in range(2):
        assert len({style[part] for style in STYLES.values()}) == len(STYLES)
    assert not set(OTHERS) & {style[0] for style in STYLES.values()}
