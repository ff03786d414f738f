"""Figures as markup of the page: SVG files without anything that could act or reach outside."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

SHAPES = frozenset(
    {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "text", "tspan", "image"}
)
ELEMENTS = SHAPES | {"svg", "g", "defs", "use", "clipPath"}
ATTRIBUTES = frozenset(
    {
        *("id", "d", "transform", "style", "clip-path", "clip-rule", "clipPathUnits", "viewBox", "points"),
        *("x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "rx", "ry", "dx", "dy", "width", "height"),
        *("fill", "stroke", "stroke-width", "opacity", "font-size", "text-anchor", "preserveAspectRatio"),
    }
)
JOINS = "stroke-linejoin:round;stroke-linecap:butt"
SMALLEST = 0.62
"""How far a figure shrinks where there is little room; from there on it scrolls in its box."""
RASTER = "data:image/png;base64,"
_OUTSIDE = re.compile(r"url\((?!#)|expression|@import|[<>]", re.IGNORECASE)
_LOCAL = re.compile(r"url\(#")


def svg_markup(path: Path, title: str, prefix: str) -> str:
    """Return a figure as an ``svg`` element.

    Only shapes and their looks are kept: no script, style sheet, comment, metadata or reference to anything
    but the figure's own parts, whose names get a prefix, so that figures of one page do not share them.

    Args:
        path: of an SVG file that matplotlib wrote.
        title: what a screen reader says.
        prefix: of this figure's names.
    """
    root = ElementTree.parse(path).getroot()
    kept = _kept(root, prefix)
    kept.attrib.pop("width", None)
    kept.attrib.pop("height", None)
    kept.attrib |= {"role": "img", "aria-label": title, "style": f"{JOINS};{_widths(root)}"}
    return ElementTree.tostring(kept, encoding="unicode")


def _widths(root: ElementTree.Element) -> str:
    """Return the width at which a figure is drawn, and the least at which its letters can be read."""
    width = float(root.attrib["viewBox"].split()[2])
    return f"width:{width:.0f}px;min-width:{SMALLEST * width:.0f}px"


def _kept(element: ElementTree.Element, prefix: str) -> ElementTree.Element:
    found = ElementTree.Element(_plain(element.tag), _attributes(element, prefix))
    found.text = element.text if found.tag in ("text", "tspan") else None
    for child in element:
        if isinstance(child.tag, str) and _plain(child.tag) in ELEMENTS:
            found.append(_kept(child, prefix))
    return found


def _attributes(element: ElementTree.Element, prefix: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in element.attrib.items():
        plain = _plain(name)
        if plain == "href":
            found |= _reference(value, prefix)
        elif plain in ATTRIBUTES and not _OUTSIDE.search(value):
            value = f"{prefix}{value}" if plain == "id" else value
            found[plain] = _LOCAL.sub(f"url(#{prefix}", value)
    return found


def _reference(value: str, prefix: str) -> dict[str, str]:
    """Return a reference to a part of the figure, or to pixels that it holds; nothing else is one."""
    if value.startswith("#"):
        return {"href": f"#{prefix}{value[1:]}"}
    return {"href": "".join(value.split())} if value.startswith(RASTER) else {}


def _plain(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]
