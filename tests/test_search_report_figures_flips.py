"""The figures of guarded searches: what a curve shows, what is said in words, and what is passed over."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from theriac.errors import BadInput
from theriac.search.report.figures.flips import FLIPS, HEALED, TRUTH, flip_drawings
from theriac.search.report.figures.tradeoff import tradeoff_figure
from theriac.search.store.schemas import SCHEMAS, STAMPS
from theriac.tests import drawn_figures
from theriac.tests.drawn_figures import check_texts, texts

Row = dict[str, Any]
WRITTEN = dict(zip(STAMPS, (datetime(2030, 1, 1, tzinfo=UTC), 1), strict=True))
SCOUTED, REJECTED, OUT = ("scouted", "rejected", "left_out")
NAMES = "fc.weight[0,25] fc.weight[0,7] bn.weight[3] bn.weight[4] fc.bias[0]"


def search(key: str = "a", **columns: Any) -> Row:
    return {
        **{"key": key, "dataset": "cifar10", "model": "resnet9", "attack": "badnets", "manipulated": 500},
        **{"seed": 0, "share": "0.1", "method": "xlf", "granularity": "sample", "search": "guarded"},
        **{
            "status": "stopped",
            "dampened": 40,
            "alpha": 2.0,
            "flat": [1.0, 2.0],
            "left_out": "fc.weight[0,25]",
        },
        **{"suspects": 431, "damage": -0.23, "healed": 99.2, "healed_raw": 0.82, "asr": 0.021},
        **{"clean_accuracy": 0.83, "uses_oracle": False, **columns},
    }


def step(number: int, dampened: int, status: str, flips: tuple[float, float] | None, **columns: Any) -> Row:
    target, other = flips or (None, None)
    return {
        **{"key": f"a-{number}", "search": "a", "step": number, "dampened": dampened, "status": status},
        **{"alpha": 80.0 / dampened, "suspected_healed": min(1.0, dampened / 50), "after_stop": False},
        **{"flips_target": target, "flips_other": other, "left_out": "", **columns},
    }


def trace(key: str = "a", **columns: Any) -> list[Row]:
    rows = [
        step(0, 10, SCOUTED, None),
        step(1, 20, "accepted", (0.01, 0.002)),
        step(2, 40, REJECTED, (0.45, 0.01)),
        step(3, 30, OUT, (0.4, 0.008)),
        step(4, 40, "accepted", (0.02, 0.004), left_out=NAMES),
        step(5, 80, "accepted", (0.03, 0.02), left_out=NAMES),
    ]
    return [{**row, "key": f"{key}-{row['step']}", "search": key, **columns} for row in rows]


def table(name: str, rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist([{**row, **WRITTEN} for row in rows], schema=SCHEMAS[name])


def draw(directory: Path, searches: list[Row], steps: list[Row]) -> tuple[Path, ...]:
    return drawn_figures.draw(flip_drawings, directory, searches, steps)


def drawn(panel: Axes, colour: str, marker: str, line: str) -> list[tuple[float, float]]:
    """The points of what is drawn so."""
    found = [
        np.asarray(artist.get_xydata())
        for artist in panel.lines
        if (artist.get_color(), artist.get_marker(), artist.get_linestyle()) == (colour, marker, line)
    ]
    return [(round(float(x), 6), round(float(y), 6)) for points in found for x, y in points]


def test_a_figure_for_each_search_named_by_what_it_is_about(tmp_path: Path) -> None:
    searches = [search(), search("b", share="one_shot", model="timm/vit b"), search("c"), search("none")]
    paths = draw(tmp_path / "new", searches, [row for key in "abc" for row in trace(key)])
    assert [path.name for path in paths] == [
        "guarded-cifar10-resnet9-badnets-500-0.1-0-xlf-sample.png",
        "guarded-cifar10-timm_vit_b-badnets-500-one_shot-0-xlf-sample.png",
        "guarded-cifar10-resnet9-badnets-500-0.1-0-xlf-sample-2.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_lines_join_what_was_accepted_and_crosses_mark_the_jumps(
    tmp_path: Path, figures: list[Figure]
) -> None:
    draw(tmp_path, [search()], list(reversed(trace())))
    above, below = figures[0].axes
    healed, target = HEALED["suspected_healed"][1], FLIPS["flips_target"][1]
    assert drawn(above, healed, "o", "-") == [(20, 40), (40, 80), (80, 100)]
    assert drawn(above, healed, "o", "None") == [(10, 20)]
    assert drawn(below, target, "o", "-") == [(20, 1), (40, 2), (80, 3)]
    assert drawn(below, target, "x", "None") == [(40, 45)]
    assert drawn(below, target, "X", "None") == [(30, 40)]
    assert drawn(below, target, "None", "-") == [(20, 1), (30, 40)]
    assert drawn(below, FLIPS["flips_other"][1], "D", "-") == [(20, 0.2), (40, 0.4), (80, 2)]
    assert above.get_xscale() == "log"
    assert below.get_yscale() == "symlog"


def test_gentle_flips_have_a_linear_scale(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [search()], [row for row in trace() if row["status"] == "accepted"])
    assert figures[0].axes[1].get_yscale() == "linear"
    assert not {"scouting", "one weight makes it jump: left out"} & set(texts(figures[0]))


def test_the_stop_the_flat_interval_and_the_suspects_are_shown(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [search()], trace())
    for panel in figures[0].axes:
        (stop,) = [line for line in panel.lines if line.get_linestyle() == ":"]
        assert list(np.asarray(stop.get_xdata())) == [40, 40]
        (band,) = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
        assert (band.get_x(), band.get_x() + band.get_width()) == (40, 80)
    words = "\n".join(texts(figures[0]))
    assert "Guarded-XLF by sample\ncifar10, resnet9, badnets, |S_m| = 500, share 0.1, seed 0" in words
    assert "stop: 40 weights dampened, damage -0.2 pp, healed 99.2 %, ASR 2.1 %" in words
    assert "suspected: found poison, and 431 of retain" in words
    assert "left out at the stop: fc.weight[0,25]" in words


def test_three_weights_left_out_are_named_and_the_rest_counted(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [search(left_out=NAMES)], trace())
    assert "left out at the stop: fc.weight[0,25], fc.weight[0,7], bn.weight[3] +2" in texts(figures[0])


def test_a_flat_interval_of_one_step_has_no_band(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [search(flat=[2.0, 2.0]), search("b", flat=None)], [*trace(), *trace("b")])
    assert [len(panel.patches) for figure in figures for panel in figure.axes] == [0, 0, 0, 0]
    assert "score cannot be told from the best" not in texts(figures[0])


def test_truth_has_its_own_panel_where_it_was_measured(tmp_path: Path, figures: list[Figure]) -> None:
    known = trace(clean_accuracy=0.84, healed_raw=0.5)
    known[4] |= {"clean_accuracy": None, "healed_raw": None}
    draw(tmp_path, [search()], known)
    truth = figures[0].axes[2]
    assert "not seen by" in truth.get_ylabel()
    assert drawn(truth, TRUTH["clean_accuracy"][1], "s", "-") == [(20, 84), (40, 83), (80, 84)]
    assert drawn(truth, TRUTH["healed_raw"][1], "^", "-") == [(20, 50), (40, 82), (80, 50)]
    assert drawn(truth, TRUTH["clean_accuracy"][1], "X", "None") == [(30, 84)]


def test_truth_of_the_stop_alone_is_no_curve(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [search()], trace())
    assert len(figures[0].axes) == 2
    assert not {label for label, _ in TRUTH.values()} & set(texts(figures[0]))


def test_without_truth_or_stop_the_figure_says_so(tmp_path: Path, figures: list[Figure]) -> None:
    bare: Row = dict.fromkeys(("damage", "healed", "healed_raw", "asr", "suspects"))
    nothing: Row = {**bare, "status": "no_stop", "dampened": 0, "alpha": None, "flat": None, "left_out": ""}
    searches = [search(**bare), search("b", **nothing), search("c", **nothing)]
    draw(tmp_path, searches, [*trace(), *trace("b"), trace("c")[0]])
    assert "stop: 40 weights dampened" in texts(figures[0])
    assert "no_stop: no step chosen" in texts(figures[1])
    assert not [line for panel in figures[1].axes for line in panel.lines if line.get_linestyle() == ":"]
    assert "left out: fc.weight[0,25], fc.weight[0,7], bn.weight[3] +2" in texts(figures[1])
    assert "only scouted" in texts(figures[2])
    assert FLIPS["flips_target"][0] not in texts(figures[2])


def test_nothing_in_a_figure_overlaps_or_leaves_it(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path, [search(left_out=NAMES)], trace(clean_accuracy=0.84, healed_raw=0.5))
    check_texts(figures[0], smallest=9.0)


def test_other_searches_have_no_curve_of_flips(tmp_path: Path) -> None:
    other = search("ptn", search="ptn", flat=None)
    steps = [{"key": "s", "search": "ptn", "step": 0, "s": 1.0, "forget_accuracy": 0.5, "dampened": 3}]
    assert draw(tmp_path, [other, search()], steps) == ()
    assert draw(tmp_path, [], []) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_trade_off_figure_passes_guarded_searches_over(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="with a PTN search first"):
        tradeoff_figure(table("steps", trace()), table("searches", [search()]), tmp_path / "x.png")
