"""What is installed is what was written: the wheel holds the package and nothing else, and imports alone."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import theriac

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = ("datasets", "unlearning", "search", "cluster")
LITTER = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "shared", "results")

IMPORT_ALL = """
import importlib, pathlib, sys
target = pathlib.Path(sys.argv[1]).resolve()
for name in sys.argv[2:]:
    file = pathlib.Path(importlib.import_module(name).__file__).resolve()
    assert file.is_relative_to(target), f"{name} comes from {file}"
print("imported", len(sys.argv) - 2)
"""

# stands in the way of every import of torch and Ray
IMPORT_LIGHT = """
import sys
sys.modules["torch"] = sys.modules["ray"] = None
import theriac
assert theriac.__version__ and "heal" in dir(theriac)
"""

RAY_WORKER = """
import logging, ray

def file_of_theriac():
    import theriac
    return theriac.__file__

quiet = {"include_dashboard": False, "logging_level": logging.ERROR}
ray.init("local", num_cpus=1, _node_ip_address="127.0.0.1", **quiet)
print(ray.get(ray.remote(file_of_theriac).remote()))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command without the checkout's influence and return its output; show all of it if it fails."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=cwd, env={**clean, **environment}, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_sources(target: Path) -> Path:
    """The files that git has or would take; without git, all but litter."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = run("git", "ls-files", "-coz", "--exclude-standard", cwd=ROOT)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target / name)
    else:
        shutil.copytree(ROOT, target, ignore=LITTER, dirs_exist_ok=True)
    return target


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = copy_sources(tmp_path_factory.mktemp("a-checkout"))
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, sources, cwd=sources)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("target")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index")
    run(*pip, "--target", target, wheel, cwd=target)
    return target


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def modules(names: list[str]) -> list[str]:
    """``theriac/search/__init__.py`` -> ``theriac.search``, for all Python files of a wheel."""
    sources = sorted(name for name in names if name.endswith(".py"))
    return [name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in sources]


def test_wheel_holds_every_module(names: list[str]) -> None:
    paths = [*ROOT.glob("*.py"), *(path for part in PACKAGES for path in (ROOT / part).rglob("*.py"))]
    assert {name for name in names if name.endswith(".py")} == {
        f"theriac/{path.relative_to(ROOT).as_posix()}" for path in paths
    }


def test_wheel_holds_nothing_else(names: list[str]) -> None:
    allowed = re.compile(
        r"theriac/([\w/]+\.pyi?|py\.typed|[\w/]+\.(yaml|csv)|[\w/]+/page\.(html|css|js))|theriac-[\w.]+\.dist-info/(licenses/LICENSE|\w+(\.txt)?)"
    )
    assert [name for name in names if not allowed.fullmatch(name)] == []
    assert not [name for name in names if "tests" in name.split("/")]
    assert "theriac/py.typed" in names
    stubs = {path.relative_to(ROOT).as_posix() for part in PACKAGES for path in (ROOT / part).rglob("*.pyi")}
    assert stubs, "packages read from them what they export"
    assert {f"theriac/{stub}" for stub in stubs} <= set(names)


def test_wheel_metadata(wheel: Path, names: list[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (place,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = message_from_string(archive.read(place).decode())
        licence = archive.read(place.replace("METADATA", "licenses/LICENSE")).decode()
        scripts = archive.read(place.replace("METADATA", "entry_points.txt")).decode()
    assert (metadata["Name"], metadata["Version"]) == ("theriac", theriac.__version__)
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert "Apache License" in licence
    assert "theriac = theriac.cluster.cli:main" in scripts


def test_every_module_imports_from_the_wheel(installed: Path, names: list[str], tmp_path: Path) -> None:
    wanted = modules(names)
    assert "theriac.cluster.cli" in wanted
    output = run(
        sys.executable, "-c", IMPORT_ALL, installed, *wanted, cwd=tmp_path, PYTHONPATH=str(installed)
    )
    assert output.strip() == f"imported {len(wanted)}"


def test_import_from_any_directory_without_torch(tmp_path: Path) -> None:
    for folder in (tmp_path, Path("/"), ROOT.parent):
        run(sys.executable, "-c", IMPORT_LIGHT, cwd=folder)


def test_ray_workers_import_the_wheel(installed: Path, tmp_path: Path) -> None:
    file = run(sys.executable, "-c", RAY_WORKER, cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(file.strip()).resolve() == (installed / "theriac" / "__init__.py").resolve()


def test_ray_workers_import_this_installation(tmp_path: Path) -> None:
    file = run(sys.executable, "-c", RAY_WORKER, cwd=tmp_path)
    assert Path(file.strip()).resolve() == Path(theriac.__file__).resolve()


def test_heal_is_found_lazily_and_nothing_else_is() -> None:
    from theriac.search.heal import heal

    assert theriac.heal is heal
    assert set(theriac.__all__) <= set(dir(theriac))
    with pytest.raises(AttributeError, match="has no attribute 'cure'"):
        theriac.cure  # type: ignore[attr-defined]  # noqa: B018


def test_python_m_theriac_is_the_command(tmp_path: Path) -> None:
    assert "quickstart" in run(sys.executable, "-m", "theriac", "--help", cwd=tmp_path)


def test_packages_are_listed() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {path.parent.relative_to(ROOT) for part in PACKAGES for path in (ROOT / part).rglob("*.py")}
    assert set(listed) == {"theriac", *(f"theriac.{folder.as_posix().replace('/', '.')}" for folder in found)}


def imported_by(path: Path) -> set[str]:
    """Top-level names of all absolute imports in a file."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    froms = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    return {name.split(".")[0] for name in plain | froms}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def undeclared(paths: list[Path], requirements: list[str]) -> set[str]:
    """Third-party imports in ``paths`` that no requirement provides."""
    declared = {canonical(Requirement(text).name) for text in requirements}
    owners = importlib.metadata.packages_distributions()
    foreign = set().union(*map(imported_by, paths)) - set(sys.stdlib_module_names) - {"theriac"}
    return {
        name
        for name in foreign
        if not declared & {canonical(owner) for owner in [name, *owners.get(name, [])]}
    }


def test_every_import_is_a_declared_dependency() -> None:
    sources = [*ROOT.glob("*.py"), *(path for part in PACKAGES for path in (ROOT / part).rglob("*.py"))]
    assert undeclared(sources, PROJECT["dependencies"]) == set()
    assert "torch" in undeclared(sources, [])


def test_every_import_of_the_tests_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    declared = [*PROJECT["dependencies"], *extras["dev"], *extras["benchmark"]]
    assert undeclared(list((ROOT / "tests").rglob("*.py")), declared) == set()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with a Makefile and a .venv whose Python does nothing: no test may install anything."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    script(tmp_path / ".venv" / "bin" / "python", "exit 0")
    return tmp_path


def script(path: Path, body: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in ``folder``, free of a make that runs these tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=clean, text=True, capture_output=True, check=False
    )


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_make_names_a_python_that_is_too_old(checkout: Path) -> None:
    old = script(checkout / "old-python", '[ "$1" = --version ] && echo Python 3.9.1\nexit 1')
    done = make(checkout, "quickstart", f"PYTHON={old}")
    assert done.returncode == 2
    assert f"theriac needs Python 3.11 or newer, but '{old}' is: Python 3.9.1." in done.stderr
    assert "make quickstart PYTHON=python3.12" in done.stderr


@needs_make
def test_make_repairs_what_an_interrupted_install_left(checkout: Path) -> None:
    done = make(checkout, "install", f"PYTHON={script(checkout / 'python', 'echo $@')}")
    assert "venv --clear .venv" in done.stdout
    assert (checkout / ".venv" / ".installed").exists()


@needs_make
def test_make_installs_once_and_anew_after_a_move(checkout: Path) -> None:
    stamp = checkout / ".venv" / ".installed"
    stamp.write_text(f"{checkout.resolve()}\n")
    assert "Nothing to be done" in make(checkout, "-n", "install").stdout
    stamp.write_text("/somewhere/else\n")
    assert "venv --clear .venv" in make(checkout, "-n", "install").stdout


@needs_make
def test_make_installs_again_after_a_failed_install(checkout: Path) -> None:
    script(checkout / ".venv" / "bin" / "python", '[ "$1" != -m ]')
    failed = make(checkout, "install", f"PYTHON={script(checkout / 'python', 'exit 0')}")
    assert failed.returncode == 2
    assert not (checkout / ".venv" / ".installed").exists()


@needs_make
def test_make_docs_installs_once_and_keeps_the_developers_tools(checkout: Path) -> None:
    (checkout / ".venv" / ".installed").write_text(f"{checkout.resolve()}\n")
    first = make(checkout, "docs", f"PYTHON={script(checkout / 'python', 'exit 0')}")
    assert "install -e '.[dev,docs]'" in first.stdout
    assert "sphinx --quiet --fail-on-warning" in first.stdout
    assert (checkout / ".venv" / ".installed-dev").exists()
    assert "pip" not in make(checkout, "docs").stdout + make(checkout, "lint").stdout


def test_ci_script_can_be_run() -> None:
    ci = ROOT / ".ci" / "run"
    assert os.access(ci, os.X_OK)
    assert "set -euo pipefail" in ci.read_text()
