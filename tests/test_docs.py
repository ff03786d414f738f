"""The programs, commands and sweep files of README and docs work, and what these pages name exists."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import duckdb
import pytest
from safetensors.torch import save_file

from theriac.search.methods import METHOD_ENTRIES
from theriac.search.searches import SEARCH_ENTRIES
from theriac.search.settings import HealSettings
from theriac.search.store import DESCRIBING, SCHEMAS
from theriac.search.sweep.files import load_sweep
from theriac.search.training import TRAINED_METHODS, TUNE_SEARCHES, TuneSettings
from theriac.tests.exported_results import pairs, ptn, stored, tuned
from theriac.unlearning.models import ModelSpec, create_model

ROOT = Path(__file__).parents[1]
DOCS, SITE = ROOT / "docs", ROOT / "docs" / "site"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
}
NO_THERIAC = ("docs/clusters/README.md", "CONTRIBUTING.md")  # they name options of other programs


def blocks(page: str, language: str) -> list[str]:
    """What is fenced as this language; ``python notest`` is none that runs."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def shell_lines(page: str) -> Iterator[str]:
    for block in blocks(page, "sh"):
        yield from block.replace("\\\n", " ").splitlines()


def prose(page: str) -> str:
    """A page without what is fenced."""
    return re.sub(r"^```.*?^```", "", PAGES[page], flags=re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """How code hosts, and the site, name the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


PROGRAMS = {page: "\n".join(found) for page in PAGES if (found := blocks(page, "python"))}
COMMANDS = [
    (page, shlex.split(line, comments=True)[1:])
    for page in PAGES
    for line in shell_lines(page)
    if line.startswith("theriac ")
]
LINKS = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)\s]+)\)", prose(page))]
DIRECTIVE = re.compile(r"^\.\. auto(module|class|function):: (\S+)", re.MULTILINE)
REFERENCE = [found for path in SITE.glob("api/*.rst") for found in DIRECTIVE.findall(path.read_text())]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the healed model that README loads, and results as docs/sweeps.md reads them."""
    (tmp_path / "healed").mkdir()
    model = create_model(ModelSpec(width=0.25), num_classes=10, shape=(1, 32, 32))
    save_file(model.state_dict(), tmp_path / "healed" / "model.safetensors")
    row, steps = ptn()
    stored(tmp_path / "results", ({**row, "healed": 1.0}, steps), tuned(), pairs("grid"))
    stored(tmp_path / "results", (row, steps))
    return tmp_path


def run(program: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("page", sorted(set(PROGRAMS) - {"docs/heal.md"}))
def test_programs_run(page: str, place: Path):
    run(PROGRAMS[page], place)


def test_others_read_results_as_the_page_says(place: Path, monkeypatch: pytest.MonkeyPatch):
    program = "\n".join(f"print(sorted({name}['healed'].to_list()))" for name in ("searches", "newest"))
    assert run(f"{PROGRAMS['docs/sweeps.md']}\n{program}", place)[-2:] == ["[96.0, 96.0, 96.0]"] * 2
    monkeypatch.chdir(place)
    (statements,) = blocks("docs/sweeps.md", "sql")
    with duckdb.connect() as session:
        for statement in statements.split(";\n"):
            session.execute(statement)
        assert session.execute("SELECT healed FROM searches").fetchall() == [(96.0,)] * 3


def test_the_columns_that_say_what_a_row_is_exist():
    table = PAGES["docs/sweeps.md"].partition("| columns | what they say |")[2].partition("\n\n")[0]
    named = {name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split(" | ")[0])}
    assert set(DESCRIBING) <= named <= set(SCHEMAS["searches"].names)


def test_the_program_heals_a_model(tmp_path: Path):
    status, before, after = run(PROGRAMS["docs/heal.md"], tmp_path)
    assert status.startswith("stopped")
    shares = [float(re.findall(r"([\d.]+)%", line)[1]) for line in (before, after)]
    assert shares[0] < 30 < 70 < shares[1]


def test_readme_loads_what_heal_wrote():
    assert {"README.md", "docs/heal.md"} <= set(PROGRAMS)
    assert all(
        'load_file("healed/model.safetensors")' in PROGRAMS[page] for page in ("README.md", "docs/heal.md")
    )


def options_of(name: str) -> set[str]:
    from theriac.cluster.cli import app

    return {alias for argument in app[name].assemble_argument_collection() for alias in argument.names}


@pytest.mark.parametrize(
    ("page", "command"), COMMANDS, ids=lambda part: part if isinstance(part, str) else " ".join(part)
)
def test_every_option_of_a_command_exists(page: str, command: list[str]):
    name, *arguments = command
    options = {word for word in arguments if word.startswith("--")}
    assert options <= options_of(name)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in NO_THERIAC])
def test_every_option_in_a_sentence_exists(page: str):
    from theriac.cluster.cli import app

    known = {"--help", "--install-completion"}.union(
        *(options_of(name) for name in app if not name.startswith("-"))
    )
    named = [word for code in re.findall(r"`([^`]+)`", prose(page)) for word in code.split()]
    assert {word.split("=")[0] for word in named if re.match(r"--[a-z]", word)} <= known


def test_the_sweep_files_are_valid(tmp_path: Path):
    counts = {
        ("README.md", "my_sweep.yaml"): 2 * 2 * 3 * (2 + 3),
        ("docs/sweeps.md", "my_sweep.yaml"): 2 * 2 * 3 * (2 + 3),
        ("docs/sweeps.md", "my_scenario.yaml"): 2 * (1 + 2),
        ("docs/sweeps.md", "methods.yaml"): 5,
        ("docs/extending.md", "own_parts.yaml"): 11 * 2,
    }
    texts = {
        (page, name): text
        for page in PAGES
        for name, text in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
    }
    assert set(texts) == set(counts)
    assert sum(len(blocks(page, "yaml")) for page in PAGES) == len(counts)
    for (page, name), text in texts.items():
        (tmp_path / name).write_text(text)
        assert len(load_sweep(tmp_path / name).tasks()) == counts[page, name]


def test_the_own_parts_make_a_sweep(tmp_path: Path):
    (program,), (sweep,) = blocks("docs/extending.md", "python"), blocks("docs/extending.md", "yaml")
    (tmp_path / "my_parts.py").write_text(program)
    (tmp_path / "own_parts.yaml").write_text(sweep)
    command = ["theriac", "sweep", "own_parts.yaml", "--code", "my_parts.py", "--dry-run"]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "cells on 1 victim" in done.stdout


def test_every_command_is_named():
    from theriac.cluster.cli import app

    commands = {name for name in app if not name.startswith("-")}
    assert commands == set(re.findall(r"^\| `theriac (\w+)` \|", PAGES["docs/commands.md"], re.MULTILINE))


def test_every_method_search_and_setting_is_explained():
    text = PAGES["docs/methods.md"]
    searches = {*SEARCH_ENTRIES, *TUNE_SEARCHES}
    settings = {*HealSettings.model_fields, *TuneSettings.model_fields} - {"method", "search", "parameters"}
    named = set(re.findall(r"`(\w+)`", text))
    assert {*METHOD_ENTRIES, *searches, *settings} <= named
    assert "parameters=" in text


@pytest.mark.parametrize("method", TRAINED_METHODS)
def test_what_is_searched_of_a_method_is_listed(method: str):
    (row,) = re.findall(rf"^\| `{method}` \| (.*`.*) \|$", PAGES["docs/methods.md"], re.MULTILINE)
    own = set(TRAINED_METHODS["ga"].space) if "as `ga`" in row else set()
    assert set(re.findall(r"`(\w+)`", row)) - {"ga"} == set(TRAINED_METHODS[method].space) - own


@pytest.mark.parametrize(("page", "link"), [pair for pair in LINKS if "://" not in pair[1]])
def test_links_lead_somewhere(page: str, link: str):
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    if anchor:
        assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix())


@pytest.mark.parametrize(("page", "picture"), [pair for pair in LINKS if pair[1].endswith(".png")])
def test_pictures_exist(page: str, picture: str):
    assert ((ROOT / page).parent / picture).stat().st_size > 1000


def test_every_picture_is_shown():
    shown = {((ROOT / page).parent / link).resolve() for page, link in LINKS if link.endswith(".png")}
    assert set(DOCS.glob("*.png")) == shown


@pytest.mark.parametrize(
    "target",
    sorted(
        {
            word
            for page in PAGES
            for word in re.findall(r"^make ([\w-]+)", "\n".join(shell_lines(page)), re.MULTILINE)
        }
    ),
)
def test_make_targets_exist(target: str):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 140


def test_every_page_is_in_the_contents_of_the_site():
    listed = set(re.findall(r"^   /(\S+)$", (SITE / "contents.rst").read_text(), re.MULTILINE))
    reference = {path.relative_to(ROOT).with_suffix("").as_posix() for path in SITE.glob("api/*.rst")}
    assert listed - {"tests/benchmarks/results/*"} == reference | {page.removesuffix(".md") for page in PAGES}


@pytest.mark.parametrize(("sort", "name"), REFERENCE)
def test_the_reference_names_what_exists(sort: str, name: str):
    if sort == "module":
        assert importlib.import_module(name).__doc__
    else:
        module, _, thing = name.rpartition(".")
        assert callable(getattr(importlib.import_module(module), thing))


def test_the_site_is_built_without_a_warning(tmp_path: Path):
    missing = [name for name in ("sphinx", "myst_parser", "furo") if find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: make docs, or pip install '.[docs]'")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--quiet",
        "--fail-on-warning",
        "-c",
        str(SITE),
        str(ROOT),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "index.html").exists()
    pages = "".join(path.read_text() for path in (tmp_path / "docs" / "site" / "api").glob("*.html"))
    wanted = ("heal", "unlearning.importance.estimate_importance", "unlearning.dampening.dampen")
    assert all(f'id="theriac.{name}"' in pages for name in wanted)
