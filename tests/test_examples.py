"""The examples in docstrings: each is run, and none may vanish."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

from theriac.tests.test_layout import ROOT, SOURCES

FEWEST = 35  # docstrings with examples; raise it with every new one


def module_of(path: Path) -> str:
    """Name the module of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("theriac", *(part for part in parts if part != "__init__")))


WITH_EXAMPLES = {module_of(path): path for path in SOURCES if ">>> " in path.read_text()}


def examples_of(name: str) -> list[doctest.DocTest]:
    """Find the docstrings with examples that are written in a module, not those that it imports."""
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module, module.__name__)
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run(name: str) -> None:
    tests, told = examples_of(name), list[str]()
    assert tests, "its examples are in no docstring"
    runner = doctest.DocTestRunner(optionflags=doctest.FAIL_FAST)
    failed = sum(runner.run(test, out=told.append).failed for test in tests)
    assert not failed, "".join(told)


def test_no_example_has_vanished() -> None:
    found = [test.name for name in WITH_EXAMPLES for test in examples_of(name)]
    assert len(found) >= FEWEST, f"{len(found)} docstrings have examples, not {FEWEST}"


def test_examples_are_short() -> None:
    for name in WITH_EXAMPLES:
        for test in examples_of(name):
            lines = [line for one in test.examples for line in one.source.splitlines()]
            assert len(lines) <= 5, f"{test.name} has an example of {len(lines)} lines"
