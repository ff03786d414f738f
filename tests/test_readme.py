"""The README's programs run, and what it names exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from theriac.search.sweep.files import load_sweep

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in SHELL
    for line in block.replace("\\\n", " ").splitlines()
    if line.startswith("theriac ")
]


def test_the_program_heals_a_model(tmp_path: Path):
    assert len(PROGRAMS) == 1
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[0]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    status, before, after = done.stdout.splitlines()
    assert status.startswith("stopped")
    shares = [float(re.findall(r"([\d.]+)%", line)[1]) for line in (before, after)]
    assert shares[0] < 30 < 70 < shares[1]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_option_of_a_command_exists(command: list[str]):
    from theriac.cluster.cli import app

    name, *arguments = command
    known = {alias for argument in app[name].assemble_argument_collection() for alias in argument.names}
    options = {word for word in arguments if word.startswith("--")}
    assert options <= known


def test_the_sweep_files_are_valid(tmp_path: Path):
    counts = {"my_sweep.yaml": 2 * 2 * 3 * (2 + 3), "methods.yaml": 5}
    texts = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert {name for name, _ in texts} == set(counts)
    for name, text in texts:
        (tmp_path / name).write_text(text)
        assert len(load_sweep(tmp_path / name).tasks()) == counts[name]


def test_every_command_is_named():
    from theriac.cluster.cli import app

    commands = {name for name in app if not name.startswith("-")}
    listed = README.split("## Commands")[1].split("each explains itself")[0]
    assert commands == set(re.findall(r"`(?:theriac )?(\w+)`", listed))


@pytest.mark.parametrize("picture", re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README))
def test_pictures_exist(picture: str):
    assert (ROOT / picture).stat().st_size > 1000


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", "\n".join(SHELL), re.MULTILINE))
def test_make_targets_exist(target: str):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
