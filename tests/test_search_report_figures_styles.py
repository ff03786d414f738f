"""One table of styles: no two methods look alike, in colour, in grey, and to colour-blind eyes."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pytest

from theriac.search.methods import BASELINES, METHOD_ENTRIES
from theriac.search.report.figures.canvas import INK
from theriac.search.report.figures.flips import FLIPS, HEALED
from theriac.search.report.figures.styles import DASHES, MARKERS, PALETTE, STYLES, style_order, styles_of
from theriac.search.report.figures.times import PHASES
from theriac.search.report.figures.tradeoff import CURVES
from theriac.search.report.line_names import method_name
from theriac.search.searches import SEARCH_ENTRIES
from theriac.search.settings import METHODS
from theriac.search.training import TRAINED_METHODS, TUNE_SEARCHES

VISION = {
    "all": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}
"""What colour-blind eyes see of linear RGB (Machado et al., 2009)."""


def every_name() -> list[str]:
    """All names that `method_name` gives to what can be run."""
    searched = [*product(METHODS, SEARCH_ENTRIES), *product(TRAINED_METHODS, TUNE_SEARCHES)]
    assert {*METHODS, *TRAINED_METHODS, *BASELINES} == {*METHOD_ENTRIES}
    places = [*searched, *((name, None) for name in BASELINES)]
    return [
        str(method_name({"method": method, "search": search, "uses_oracle": False}))
        for method, search in places
    ]


def linear(colour: str) -> np.ndarray:
    parts = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def contrast_on_white(colour: str) -> float:
    """As in the Web Content Accessibility Guidelines."""
    return float(1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05))


def lab(rgb: np.ndarray) -> np.ndarray:
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ rgb
    scaled = xyz / [0.9505, 1.0, 1.0888]
    root = np.where(scaled > 0.008856, np.cbrt(scaled), 7.787 * scaled + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def test_every_method_of_every_search_is_in_the_table() -> None:
    assert {*every_name()} == {*STYLES}


@pytest.mark.parametrize("left", ["grey", "point"])
def test_no_two_methods_look_alike(left: str) -> None:
    seen = {name: getattr(style, left) for name, style in STYLES.items()}
    assert [(a, b) for a, b in combinations(STYLES, 2) if seen[a] == seen[b]] == []


def test_all_names_at_once_with_held_out_truth_and_names_of_ones_own_look_different() -> None:
    names = every_name()
    names += [f"{name}*" for name in names if name not in ("EU", "None")]
    names += ["PTN-OWN", "MINE", "Another-XLF"]
    found = styles_of({name: name for name in names})
    assert [pair for pair in combinations(names, 2) if found[pair[0]].grey == found[pair[1]].grey] == []
    assert {name: found[name] for name in STYLES} == dict(STYLES)


def test_names_of_ones_own_look_the_same_in_other_figures() -> None:
    own = styles_of({"PTN-OWN": "PTN-OWN"})["PTN-OWN"]
    assert styles_of({"PTN-OWN": "PTN-OWN", "PTN-XLF": "PTN-XLF"})["PTN-OWN"] == own
    assert own.grey not in {style.grey for style in STYLES.values()}


def test_settings_of_a_method_keep_its_marker_and_differ_in_dashes() -> None:
    labels = {f"PTN-XLF, s_step {step}": "PTN-XLF" for step in (1.01, 1.1, 1.5, 2.0)}
    found = styles_of(labels)
    assert found["PTN-XLF, s_step 1.01"] == STYLES["PTN-XLF"]
    assert {style.marker for style in found.values()} == {STYLES["PTN-XLF"].marker}
    assert len({style.dashes for style in found.values()}) == 4
    assert len({style.colour for style in found.values()}) == 4


def test_more_lines_than_looks_are_drawn_all_the_same() -> None:
    count = len(MARKERS) * len(DASHES) + 1
    assert len(styles_of({f"line {k}": "PTN-XLF" for k in range(count)})) == count


def test_legends_have_the_order_of_the_table() -> None:
    names = ["None", "ZZZ", "PTN-XLF*", "EU", "Guarded-XLF", "PTN-XLF"]
    assert sorted(names, key=style_order) == ["Guarded-XLF", "PTN-XLF", "PTN-XLF*", "EU", "None", "ZZZ"]


def test_lines_stand_out_from_paper() -> None:
    drawn = {*PALETTE, INK, *(colour for _, colour in (*CURVES.values(), *FLIPS.values(), *HEALED.values()))}
    drawn |= {colour for _, colour, _ in PHASES.values()}
    assert {colour: contrast_on_white(colour) for colour in drawn if contrast_on_white(colour) < 3} == {}


@pytest.mark.parametrize("vision", VISION)
def test_colour_blind_eyes_tell_the_colours_apart(vision: str) -> None:
    seen = {colour: lab(np.clip(VISION[vision] @ linear(colour), 0, 1)) for colour in PALETTE}
    close = [pair for pair in combinations(PALETTE, 2) if np.linalg.norm(seen[pair[0]] - seen[pair[1]]) < 10]
    assert close == []
