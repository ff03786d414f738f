"""The trade-off figures: what is drawn where, and that a file is whole or absent."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
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
from theriac.search.report.figures.drawing import first_in_turn
from theriac.search.report.figures.tradeoff import CURVES, MARKERS, tradeoff_drawings, tradeoff_figure
from theriac.search.store.schemas import SCHEMAS
from theriac.tests import drawn_figures

STAMPS = {"written_at": datetime(2030, 1, 1, tzinfo=UTC), "schema_version": 1}
STOP = 6


def search(method: str = "xlf", granularity: str | None = "sample", **columns: Any) -> dict[str, Any]:
    return {
        **{"key": f"{method}-{granularity}", "method": method, "granularity": granularity, "search": "ptn"},
        **{"dataset": "digits", "model": "resnet9", "attack": "badnets", "manipulated": 100, "share": "0.2"},
        **{"status": "stopped", "s": 0.01 * 1.3**STOP, "alpha": 12.34, "damage": -0.41},
        **{"forget_accuracy": 0.4, "clean_accuracy": 0.95, "healed_raw": 0.4, **columns},
    }


def trace(key: str = "xlf-sample", **columns: Any) -> list[dict[str, Any]]:
    steps = []
    for i in range(10):
        values = {"forget_accuracy": 1 - i / 10, "clean_accuracy": 0.98 - i / 200, "healed_raw": 0.1 + i / 20}
        place = {"key": f"{key}-{i}", "search": key, "step": i, "s": 0.01 * 1.3**i, "after_stop": i > STOP}
        steps.append({**place, **values, **columns})
    return steps


def table(name: str, rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([{**row, **STAMPS} for row in rows], schema=SCHEMAS[name])


def draw(path: Path, searches: list[dict[str, Any]], steps: list[dict[str, Any]]) -> Path:
    return tradeoff_figure(table("steps", steps), table("searches", searches), path)


def lines(panel: Axes, column: str, style: str) -> list[tuple[list[float], list[float]]]:
    found = [
        line
        for line in panel.lines
        if line.get_color() == CURVES[column][1] and line.get_linestyle() == style
    ]
    return [
        (list(map(float, np.asarray(line.get_xdata()))), list(map(float, np.asarray(line.get_ydata()))))
        for line in found
    ]


def texts(item: Any) -> list[str]:
    return [text.get_text() for text in item.findobj(matplotlib.text.Text) if text.get_text()]


def test_six_panels_make_a_picture_for_a_readme(tmp_path: Path, figures: list[Figure]) -> None:
    places = [(method, how) for how in ("batch", "sample") for method in ("xlf", "ssd", "lf")]
    steps = [step for method, how in places for step in trace(f"{method}-{how}")]
    none = search("none", key="none", granularity=None)
    path = draw(tmp_path / "new" / "x.png", [none, *(search(*place) for place in places)], steps)
    with Image.open(path) as image:
        assert image.size == (1400, 800)
    titles = [panel.get_title(loc="left") for panel in figures[0].axes]
    names = ("PTN-SSD", "PTN-LF", "PTN-XLF")
    assert titles == [f"{name}, {how}" for how in ("sample", "batch") for name in names]
    assert "digits, resnet9, badnets, |S_m| = 100, share 0.2" in texts(figures[0])


def test_curves_are_in_percent_and_go_on_dashed_beyond_the_stop(
    tmp_path: Path, figures: list[Figure]
) -> None:
    draw(tmp_path / "x.png", [search()], list(reversed(trace())))
    (panel,) = figures[0].axes
    assert panel.get_xscale() == "log"
    for column in CURVES:
        (s, values), *_ = lines(panel, column, "-")
        assert s == [0.01 * 1.3**i for i in range(STOP + 1)]
        assert values == pytest.approx([100 * step[column] for step in trace()[: STOP + 1]])
        ((s, values),) = lines(panel, column, "--")
        assert s == [0.01 * 1.3**i for i in range(STOP, 10)]
        assert values == pytest.approx([100 * step[column] for step in trace()[STOP:]])


def test_the_stop_is_marked_and_labelled(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path / "x.png", [search()], trace())
    (panel,) = figures[0].axes
    (stop,) = [line for line in panel.lines if line.get_linestyle() == ":"]
    assert list(np.asarray(stop.get_xdata())) == [search()["s"]] * 2
    assert "stop: alpha 12.3, damage -0.4 pp" in texts(panel)


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        ({"status": "no_stop", "s": None}, "no_stop: no step chosen"),
        ({"status": "no_stop"}, "no_stop: no step chosen"),
        ({"status": "collapsed", "alpha": None}, "collapsed: damage -0.4 pp"),
        ({"alpha": None, "damage": None}, "stop"),
    ],
)
def test_other_ends_are_named(
    tmp_path: Path, figures: list[Figure], columns: dict[str, Any], label: str
) -> None:
    draw(tmp_path / "x.png", [search(**columns)], trace())
    (panel,) = figures[0].axes
    assert label in texts(panel)
    assert any(line.get_linestyle() == ":" for line in panel.lines) == ("no_stop" not in label)


def test_values_that_were_not_measured_are_passed_over(tmp_path: Path, figures: list[Figure]) -> None:
    steps = trace(healed_raw=None)
    steps[2] |= {"clean_accuracy": None, "forget_accuracy": float("nan")}
    draw(tmp_path / "x.png", [search()], steps)
    (panel,) = figures[0].axes
    assert len(lines(panel, "clean_accuracy", "-")[0][0]) == STOP
    assert len(lines(panel, "forget_accuracy", "-")[0][0]) == STOP
    assert lines(panel, "healed_raw", "-")[0] == ([search()["s"]], [40.0])


def test_missing_and_failed_panels_say_so(tmp_path: Path, figures: list[Figure]) -> None:
    failed = search("lf", "batch", status="failed", error_class="OutOfMemoryError")
    draw(tmp_path / "x.png", [search(), failed], trace())
    panels = {panel.get_title(loc="left"): texts(panel) for panel in figures[0].axes}
    assert "not run" in panels["XLF, batch"]
    assert "failed: OutOfMemoryError" in panels["PTN-LF, batch"]


def test_steps_of_other_searches_and_without_s_are_left_out(tmp_path: Path, figures: list[Figure]) -> None:
    steps = [*trace(), *trace("another", s=1e6), {**trace()[0], "key": "z", "s": 0.0}]
    draw(tmp_path / "x.png", [search()], steps)
    assert figures[0].axes[0].get_xlim()[1] < 1


def test_grids_are_left_out_even_if_they_failed(tmp_path: Path, figures: list[Figure]) -> None:
    grid = search(key="grid", search="grid", s=None)
    failed = search("ssd", key="failed", search="grid", status="failed", error_class="MemoryError")
    draw(tmp_path / "x.png", [grid, search(), failed], [*trace(), *trace("grid", s=None)])
    assert [panel.get_title(loc="left") for panel in figures[0].axes] == ["PTN-XLF, sample"]
    with pytest.raises(BadInput, match="with a PTN search first"):
        draw(tmp_path / "y.png", [grid], trace("grid", s=None))


def test_nothing_in_a_figure_overlaps_or_is_small(tmp_path: Path, figures: list[Figure]) -> None:
    places = [(method, how) for how in ("batch", "sample") for method in ("xlf", "ssd", "lf")]
    rows = [search(*place, s=0.01 * 1.3 ** (9 * (i % 2)), alpha=123456.0) for i, place in enumerate(places)]
    draw(tmp_path / "x.png", rows, [step for row in rows for step in trace(row["key"])])
    visible = [
        text
        for text in figures[0].findobj(matplotlib.text.Text)
        if isinstance(text, matplotlib.text.Text) and text.get_text() and text.get_visible()
    ]
    boxes = [(text.get_text(), text.get_window_extent()) for text in visible]
    assert min(float(text.get_fontsize()) for text in visible) >= 8
    titles = [(name, box) for name, box in boxes if "PTN" in name or "alpha" in name or "digits" in name]
    assert len(titles) == 13
    clashes = [(a, b) for i, (a, one) in enumerate(titles) for b, two in titles[i + 1 :] if one.overlaps(two)]
    assert clashes == []
    for panel in figures[0].axes:
        (label,) = [text for text in panel.texts if "alpha" in text.get_text()]
        assert panel.bbox.x0 <= label.get_window_extent().x0
        assert label.get_window_extent().x1 <= panel.bbox.x1


def test_a_figure_of_nothing_is_refused(tmp_path: Path) -> None:
    for rows, steps in (([], []), ([search()], []), ([search("none")], trace("none-sample"))):
        with pytest.raises(BadInput, match="no search with recorded steps to draw; run"):
            draw(tmp_path / "x.png", rows, steps)
    assert list(tmp_path.iterdir()) == []


def test_two_searches_in_one_panel_are_refused(tmp_path: Path) -> None:
    rows = [search(), search(key="b", share="0.5")]
    with pytest.raises(
        BadInput, match=r"several searches for xlf by sample \(.*0\.2.*0\.5.*choose the rows of one"
    ):
        draw(tmp_path / "x.png", rows, trace() + trace("b"))


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("PDF", b"%PDF"), ("svg", b"<?xml")])
def test_the_ending_decides_the_format(tmp_path: Path, ending: str, magic: bytes) -> None:
    path = draw(tmp_path / f"x.{ending}", [search()], trace())
    assert path.read_bytes().startswith(magic)
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"x\.jpg does not end in \.png, \.pdf, \.svg"):
        draw(tmp_path / "x.jpg", [search()], trace())


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"x\.png cannot be written"):
        draw(tmp_path / "file" / "x.png", [search()], trace())


def test_a_failure_while_drawing_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(self: Figure, target: Path, **options: Any) -> None:
        Path(target).write_bytes(b"half")
        raise RuntimeError("boom")

    path = draw(tmp_path / "x.png", [search()], trace())
    before = path.read_bytes()
    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(RuntimeError, match="boom"):
        draw(path, [search()], trace())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_no_global_state_of_matplotlib_is_touched() -> None:
    code = "import sys, theriac.search.report.figures.tradeoff; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def drawings(directory: Path, searches: list[dict[str, Any]], steps: list[dict[str, Any]]) -> list[str]:
    return [path.stem for path in drawn_figures.draw(tradeoff_drawings, directory, searches, steps)]


def test_each_scenario_and_share_is_a_figure(tmp_path: Path, figures: list[Figure]) -> None:
    places = [(share, seed) for share in ("1.0", "one_shot") for seed in (0, 1)]
    rows = [
        search(method, key=f"{method}{share}{seed}", share=share, seed=seed, steps=10)
        for share, seed in places
        for method in ("xlf", "ssd")
    ]
    names = drawings(tmp_path, rows, [step for row in rows for step in trace(row["key"])])
    assert names == [
        "tradeoff-digits-resnet9-badnets-100-one_shot-0",
        "tradeoff-digits-resnet9-badnets-100-one_shot-1",
        "tradeoff-digits-resnet9-badnets-100-1.0-0",
        "tradeoff-digits-resnet9-badnets-100-1.0-1",
    ]
    titles = [panel.get_title(loc="left") for panel in figures[0].axes]
    assert titles == ["PTN-SSD, sample", "PTN-XLF, sample"]
    assert "digits, resnet9, badnets, |S_m| = 100, one-shot, seed 0" in texts(figures[0])


def test_settings_of_one_method_are_figures_of_their_own(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [
        search(key=key, steps=10, seed=0, settings=f'{{"s_step": {step}}}')
        for key, step in (("a", 1.1), ("b", 2.0))
    ]
    names = drawings(tmp_path, rows, trace("a") + trace("b"))
    assert [name.removeprefix("tradeoff-digits-resnet9-badnets-100-0.2-0-") for name in names] == [
        "s_step_1.1",
        "s_step_2.0",
    ]
    assert any("s_step 2.0" in text for text in texts(figures[1]))


def test_searches_without_steps_have_no_figure(tmp_path: Path) -> None:
    rows = [search(steps=10), search(key="b", steps=None), search("none", key="n", steps=None)]
    assert drawings(tmp_path, [{**row, "seed": 0} for row in rows], []) == []


def test_first_seeds_and_shares_come_before_further_ones() -> None:
    rows = [
        search(key=f"{share}{seed}{attack}", share=share, seed=seed, attack=attack, steps=10)
        for attack in ("badnets", "sine")
        for share in ("0.2", "0.5")
        for seed in (3, 4)
    ]
    found = first_in_turn(tradeoff_drawings(drawn_figures.whole("searches", rows)), 5)
    assert [(one.place[3], one.place[6], one.place[7]) for one in found] == [
        ("badnets", "0.2", 3),
        ("badnets", "0.2", 4),
        ("badnets", "0.5", 3),
        ("sine", "0.2", 3),
        ("sine", "0.5", 3),
    ]


def test_curves_are_told_apart_without_colour(tmp_path: Path, figures: list[Figure]) -> None:
    draw(tmp_path / "x.png", [search()], trace())
    markers = {line.get_color(): line.get_marker() for line in figures[0].axes[0].lines[:6]}
    assert markers == {colour: MARKERS[name] for name, (_, colour) in CURVES.items()}
