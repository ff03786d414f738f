"""How each method looks in every figure: one table of colours, markers and dashes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

BLACK, GREY, BLUE, VERMILION = "#000000", "#767676", "#0072B2", "#D55E00"
GREEN, PINK, INDIGO, WINE = "#009E73", "#CC6FA3", "#332288", "#882255"
PALETTE = (VERMILION, BLUE, GREEN, PINK, INDIGO, WINE, GREY, BLACK)
"""Told apart by colour-blind eyes, and at least three times as dark as paper, which thin lines need."""
MARKERS: tuple[Any, ...] = ("o", "s", "^", "D", "*", "X", "v", "P", "p", "<", ">", "d", "h", (4, 1, 0))
DASHES: Mapping[str, Any] = {
    "solid": "-",
    "long": (0, (6, 1.5)),
    "short": (0, (3, 1.5)),
    "dots": (0, (1, 1.2)),
    "dash-dot": (0, (8, 1.5, 1, 1.5)),
    "dash-dot-dot": (0, (6, 1.2, 1, 1.2, 1, 1.2)),
    "two dashes": (0, (6, 1.2, 2, 1.2)),
}
_LINES = tuple(DASHES.values())


class Style(NamedTuple):
    """What tells a line from all others.

    Attributes:
        colour: of `PALETTE`.
        marker: of `MARKERS`.
        dashes: of `DASHES`.
    """

    colour: str
    marker: Any
    dashes: Any

    @property
    def grey(self) -> tuple[Any, Any]:
        """Return what is left of it without colour."""
        return self.marker, self.dashes

    @property
    def point(self) -> tuple[str, Any]:
        """Return what is left of it where there are points and no lines."""
        return self.colour, self.marker

    @property
    def size(self) -> float:
        """Return the size of the marker; a star fills less of its size."""
        return {"*": 10.0, "X": 7.0, "P": 7.0, "d": 7.5, (4, 1, 0): 9.5}.get(self.marker, 6.0)


_PTN = {"XLF": (VERMILION, "o"), "LF": (BLUE, "s"), "SSD": (GREEN, "^")}
_GUARDED = {"XLF": (INDIGO, "*"), "LF": (PINK, (4, 1, 0)), "SSD": (WINE, "X")}
_GRID = {"XLF": (GREEN, "h"), "LF": (WINE, "d"), "SSD": (PINK, "D")}
_TPE = {"XLF": (GREY, ">"), "LF": (VERMILION, "<"), "SSD": (BLUE, "p")}
_TRAINED = {
    "CF": (WINE, "s"),
    "FT": (BLUE, "o"),
    "FP": (PINK, "v"),
    "NAD": (GREEN, "D"),
    "NC": (WINE, "^"),
    "I-BAU": (INDIGO, "P"),
    "GA": (VERMILION, "X"),
    "NPO": (PINK, "p"),
    "RGA": (BLACK, "*"),
}
_FIXED = {
    name: (PALETTE[(PALETTE.index(colour) + 3) % len(PALETTE)], marker)
    for name, (colour, marker) in _TRAINED.items()
}
_TABLE = (
    ("Guarded-", "dash-dot", _GUARDED),
    ("PTN-", "solid", _PTN),
    ("Grid-", "long", _GRID),
    ("TPE-", "two dashes", _TPE),
    ("TPE-", "dash-dot-dot", _TRAINED),
    ("", "short", _FIXED),
)
STYLES: Mapping[str, Style] = {
    **{
        f"{search}{method}": Style(colour, marker, DASHES[dashes])
        for search, dashes, methods in _TABLE
        for method, (colour, marker) in methods.items()
    },
    "EU": Style(BLACK, "v", DASHES["long"]),
    "None": Style(GREY, "P", DASHES["dots"]),
}
"""Name of a method, as `method_name` gives it -> its style, in the order of legends."""
_POSITIONS = {name: number for number, name in enumerate(STYLES)}


def style_order(name: str) -> tuple[int, str]:
    """Return what methods are sorted by: the order of the table, then names."""
    return _POSITIONS.get(name.removesuffix("*"), len(STYLES)), name


def styles_of(labels: Mapping[str, str]) -> dict[str, Style]:
    """Give every line of a figure a style that no other line of it has, also without colour.

    The first line of a method has the style of the table. Others of it (with other settings, or an asterisk)
    keep its marker, with other dashes and colours; methods that are not in the table take what no method of
    the table has, by their name, so that they look the same wherever they can.

    Args:
        labels: what a line is called -> the name of its method.
    """
    found: dict[str, Style] = {}
    lines: set[tuple[Any, Any]] = set()
    points: set[tuple[str, Any]] = set()
    for label in sorted(labels, key=lambda label: (labels[label] not in STYLES, label != labels[label])):
        free = [one for one in _candidates(labels[label]) if one.grey not in lines]
        unlike = [one for one in free if one.point not in points]
        found[label] = next(iter((*unlike, *free, *_candidates(labels[label]))))
        lines.add(found[label].grey)
        points.add(found[label].point)
    return {label: found[label] for label in labels}


def _candidates(name: str) -> Iterator[Style]:
    """Yield the styles that a line of a method could have, the best first."""
    own = STYLES.get(name)
    if own:
        yield own
    base = own or STYLES.get(name.removesuffix("*")) or _free_style(name)
    places = [(PALETTE.index(base.colour), MARKERS.index(base.marker), _LINES.index(base.dashes))]
    for shift in range(len(MARKERS)):
        for step in range(len(_LINES)):
            colour, marker, line = places[0]
            one = Style(
                PALETTE[(colour + step + shift) % len(PALETTE)],
                MARKERS[(marker + shift) % len(MARKERS)],
                _LINES[(line + step) % len(_LINES)],
            )
            if one.grey not in _KNOWN:
                yield one


def _free_style(name: str) -> Style:
    """Return a style by a name that is not in the table; two names may have one."""
    number = zlib.crc32(name.encode())
    free = [(marker, line) for marker in MARKERS for line in _LINES if (marker, line) not in _KNOWN]
    marker, line = free[number % len(free)]
    return Style(PALETTE[number % len(PALETTE)], marker, line)


_KNOWN = frozenset(style.grey for style in STYLES.values())
