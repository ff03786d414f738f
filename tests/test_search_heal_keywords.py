"""The keywords of `heal` are those of its settings, and a type checker refuses others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from theriac.search.heal_keywords import HealKeywords
from theriac.search.settings import HealSettings
from theriac.search.training.settings import TuneSettings

FIELDS = {**TuneSettings.model_fields, **HealSettings.model_fields}
ROOT = Path(__file__).parents[1]


def plain(annotation: Any) -> set[Any]:
    """The kinds of values that an annotation lets in, without bounds."""
    if hasattr(annotation, "__metadata__"):
        return plain(annotation.__origin__)
    name = str(get_origin(annotation))
    if "Union" in name:
        return {kind for one in get_args(annotation) for kind in plain(one)}
    if "Literal" in name:
        return set(get_args(annotation))
    return {get_origin(annotation) or annotation}


def test_they_are_the_fields_of_the_settings() -> None:
    hints = get_type_hints(HealKeywords)
    assert set(hints) == set(FIELDS) - {"method"}
    open_ones = {"search", "parameters", "space"}  # choices that follow from tables, and mappings
    for name in set(hints) - open_ones:
        assert plain(hints[name]) == plain(FIELDS[name].annotation), name


CALLS = {
    "method='xlf', max_steps=3, rho='auto', progress=True": "",
    "methd=3": 'Unexpected keyword argument "methd"',
    "max_steps='many'": '"max_steps" to "heal"',
    "granularity='both'": '"granularity" to "heal"',
}


@pytest.mark.skipif(not (ROOT / ".mypy_path/theriac").exists(), reason="`make lint` lets mypy find theriac")
def test_a_type_checker_knows_them(tmp_path: Path) -> None:
    program, first = tmp_path / "program.py", 5
    head = ["import torch", "import theriac", "x = torch.zeros(2, 1, 8, 8)", "net = torch.nn.Linear(1, 1)"]
    program.write_text("\n".join([*head, *(f"theriac.heal(net, (x, x), (x, x), {call})" for call in CALLS)]))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(program)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()  # other versions of torch say other things about theriac's own files
    found = [line for line in lines if "error:" in line and line.startswith(f"{program}:")]
    expected = {first + number: said for number, said in enumerate(CALLS.values()) if said}
    assert [int(line.split(":")[1]) for line in found] == list(expected), done.stdout + done.stderr
    for line, said in zip(found, expected.values(), strict=True):
        assert said in line
