"""The rooms: who may enter them, by which door, and that no circle leads back into one."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from theriac.tests.test_layout import PARTS, ROOT, imported

FILES = {
    path.relative_to(ROOT).as_posix(): path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))
}
ROOMS = sorted({Path(file).parent.as_posix() for file in FILES} - set(PARTS))
MAP = (ROOT / "README.md").read_text()


def module_of(file: str) -> str:
    """``search/ptn/machine.py`` -> ``search.ptn.machine``, and a package for its ``__init__``."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


MODULES = {module_of(file): file for file in FILES}


def needed(file: str, source: str) -> Iterator[str]:
    """Files of the project that a file imports, also in functions and for types alone."""
    for _, name in imported(file, ast.parse(source)):
        words = name.split(".")[1:]
        for end in (len(words), len(words) - 1):
            found = MODULES.get(".".join(words[:end]))
            if found and name.startswith("theriac."):
                yield found
                break


def arrows() -> dict[str, set[str]]:
    """File -> the files it imports."""
    return {file: set(needed(file, path.read_text())) - {file} for file, path in FILES.items()}


def place(file: str) -> str:
    """The room of a file, or the file itself where it lies in a folder's own level."""
    parts = Path(file).parts
    return "/".join(parts[:2])


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The names along a circle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_circle_of_files() -> None:
    assert circle(arrows()) == []


def test_no_circle_of_rooms() -> None:
    graph: dict[str, set[str]] = {}
    for file, others in arrows().items():
        graph.setdefault(place(file), set()).update({place(other) for other in others} - {place(file)})
    assert circle(graph) == []


def test_circles_are_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert set(needed("search/ptn/x.py", "def f():\n    from ..settings import y")) == {"search/settings.py"}
    assert set(needed("search/x.py", "from .ptn import PTNSearch")) == {"search/ptn/__init__.py"}
    assert set(needed("search/x.py", "from .ptn import machine")) == {"search/ptn/machine.py"}


def past_the_door(file: str, source: str) -> list[str]:
    """Imports of the inside of another room."""
    inside = {other for other in MODULES.values() if Path(other).parent.as_posix() in ROOMS}
    return [
        other
        for other in needed(file, source)
        if other in inside and not other.endswith("__init__.py") and place(other) != place(file)
    ]


def test_rooms_are_entered_by_their_door() -> None:
    found = [(file, past_the_door(file, path.read_text())) for file, path in FILES.items()]
    assert [one for one in found if one[1]] == []
    assert past_the_door("search/heal.py", "from .ptn.machine import PTNSearch") == ["search/ptn/machine.py"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_leads_to_all_that_it_names(room: str) -> None:
    package = importlib.import_module(f"theriac.{room.replace('/', '.')}")
    assert package.__all__
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert not (ROOT / room / f"{name}.py").exists(), "a module would take the place of what it exports"


@pytest.mark.parametrize("room", [*PARTS, *ROOMS])
def test_a_room_says_what_belongs_there_and_is_on_the_map(room: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
    assert text
    assert len(text) > 60
    assert f"{room}/" in MAP
