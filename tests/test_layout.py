"""The rules of the layout, checked on the source: who imports what, who prints, and how long things are."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("datasets", "unlearning", "search", "cluster")  # each may import only those before it
ROOT_MODULES = ("__init__.py", "__main__.py", "errors.py", "rows.py")
PICKLE_READER = "unlearning/models/checkpoints.py"  # may read pickles, in functions that take trust_pickle
NO_VERBS = """
    A All Also An And Another Any Around As At Because Before Between Both But By Bytes During Each
    Either Every For From Here How If Images In Inside Into It Its Labels Lambda Likewise Neither No
    None Nothing Of On One Only Or Other Others Outside Over Per Positions Rows Same Samples Seconds See
    Several Shares Since So Some Such Than That The Their Then There These They This Those Through Times
    To Two Under Until Up Values What When Where Whether Which While Who Whose Why With Within Without
"""
MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 60

SOURCES = [ROOT / name for name in ROOT_MODULES] + [
    path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))

Rule = Callable[[str, ast.Module], Iterator[str]]


def imported(path: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and full name of every import anywhere in the file; relative ones become ``theriac. ...``."""
    package = ["theriac", *Path(path).parts[:-1]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def forbidden_direction(path: str, tree: ast.Module) -> Iterator[str]:
    """datasets <- unlearning <- search <- cluster, never back."""
    part = Path(path).parts[0]
    if part not in PARTS:
        return
    later = PARTS[PARTS.index(part) + 1 :]
    for line, name in imported(path, tree):
        head = name.split(".")
        if head[0] == "theriac" and len(head) > 1 and head[1] in later:
            yield f"line {line}: {part} must not import {name}"


def ray_outside_cluster(path: str, tree: ast.Module) -> Iterator[str]:
    """Everything but cluster/ runs without Ray."""
    if Path(path).parts[0] != "cluster":
        for line, name in imported(path, tree):
            if name.split(".")[0] == "ray":
                yield f"line {line}: imports {name}; only cluster/ may"


def dotted(node: ast.expr) -> str:
    """``torch.load`` for the expression of that look; empty for what is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """Every call in the file with the name it is called by."""
    yield from ((node, dotted(node.func)) for node in ast.walk(tree) if isinstance(node, ast.Call))


def speaking_outside_cli(path: str, tree: ast.Module) -> Iterator[str]:
    """Only cluster/cli.py prints and exits, and parses arguments by the types of cluster/options.py."""
    if path == "cluster/cli.py":
        return
    for line, name in imported(path, tree):
        parses = name.split(".")[0] in {"cyclopts", "argparse", "click"}
        if parses and not (path == "cluster/options.py" and name.startswith("cyclopts.")):
            yield f"line {line}: imports {name}; only cluster/cli.py parses arguments"
    for node, name in calls(tree):
        if name in {"print", "sys.exit", "exit", "quit", "os._exit", "sys.stdout.write", "sys.stderr.write"}:
            yield f"line {node.lineno}: calls {name}(); only cluster/cli.py prints and exits"


def unsafe_load(path: str, tree: ast.Module) -> Iterator[str]:
    """A checkpoint must not run code: torch.load(weights_only=True), yaml.safe_load, no pickle."""
    trusted = asked_to_trust(tree) if path == PICKLE_READER else set()
    for node, name in calls(tree):
        safe = any(
            word.arg == "weights_only" and isinstance(word.value, ast.Constant) and word.value.value is True
            for word in node.keywords
        )
        if name == "torch.load" and not safe and node not in trusted:
            yield f"line {node.lineno}: torch.load without weights_only=True"
        if name in {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "pickle.load", "pickle.loads"}:
            yield f"line {node.lineno}: {name} runs what the file says"
    for line, imported_name in imported(path, tree):
        if imported_name in {"torch.load", "pickle.load", "pickle.loads", "yaml.load"}:
            yield f"line {line}: import the module, not {imported_name}, so that this check sees the calls"


def asked_to_trust(tree: ast.Module) -> set[ast.AST]:
    """All nodes inside functions with a parameter ``trust_pickle``."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    asked = [
        one for one in functions if "trust_pickle" in {a.arg for a in [*one.args.args, *one.args.kwonlyargs]}
    ]
    return {node for function in asked for node in ast.walk(function)}


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from ``def`` to its end, without its docstring."""
    first = node.body[0]
    documented = ast.get_docstring(node, clean=False) is not None
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


def docstring_without_verb(path: str, tree: ast.Module) -> Iterator[str]:
    """A function's docstring says what it does; that of a command of the command line is a help text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_command(node):
            words = (ast.get_docstring(node) or "Return").split()
            first = words[0].rstrip(",.:;")
            if first in NO_VERBS.split() or not first[0].isupper():
                yield f"line {node.lineno}: {node.name}: begin the docstring with a verb, not with {first!r}"


def is_command(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function is a command of the command line."""
    return any(isinstance(one, ast.Attribute) and one.attr == "command" for one in node.decorator_list)


def long_function(path: str, tree: ast.Module) -> Iterator[str]:
    """Functions of about ten lines; this is where the patience ends."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = body_lines(node)
            if lines > MOST_FUNCTION_LINES:
                yield f"line {node.lineno}: {node.name} has {lines} lines, at most {MOST_FUNCTION_LINES}"


RULES: tuple[Rule, ...] = (
    forbidden_direction,
    ray_outside_cluster,
    speaking_outside_cli,
    unsafe_load,
    long_function,
    docstring_without_verb,
)


def complaints(rule: Rule, path: str, source: str) -> list[str]:
    """What ``rule`` finds in ``source``, were it the file ``path`` of the repository."""
    return [f"{path} {complaint}" for complaint in rule(path, ast.parse(source))]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sources_follow_the_rule(rule: Rule) -> None:
    found = [
        complaint
        for path in SOURCES
        for complaint in complaints(rule, path.relative_to(ROOT).as_posix(), path.read_text())
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_file_is_not_too_long(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_FILE_LINES, f"{lines} lines, at most {MOST_FILE_LINES}: split it by what it is about"


def test_tests_have_no_long_functions() -> None:
    found = [one for path in TESTS for one in complaints(long_function, path.name, path.read_text())]
    assert not found, "\n".join(found)


def test_all_sources_are_seen() -> None:
    unknown = {path.name for path in ROOT.glob("*.py")} - set(ROOT_MODULES)
    assert not unknown, f"new modules at the top are not checked here: {sorted(unknown)}; add them"
    assert {path.parent.name for path in SOURCES} >= set(PARTS)


def test_root_is_not_imported_under_the_name_of_its_folder() -> None:
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    twins = {name for name, file in files.items() if file and Path(file).resolve() == ROOT / "__init__.py"}
    assert twins <= {"theriac"}


LONG = "def f():\n" + "    x = 1\n" * MOST_FUNCTION_LINES

BAD = [
    (forbidden_direction, "datasets/a.py", "from ..search import ptn"),
    (forbidden_direction, "datasets/a.py", "from .. import unlearning"),
    (forbidden_direction, "datasets/deep/a.py", "from ...cluster.cli import main"),
    (forbidden_direction, "unlearning/a.py", "import theriac.search.ptn"),
    (forbidden_direction, "unlearning/a.py", "from theriac import cluster"),
    (forbidden_direction, "search/a.py", "def f():\n    from ..cluster import session"),
    (
        forbidden_direction,
        "search/a.py",
        "if TYPE_CHECKING:\n    from theriac.cluster.cli import main",
    ),
    (ray_outside_cluster, "search/a.py", "import ray"),
    (ray_outside_cluster, "datasets/a.py", "def f():\n    from ray import tune"),
    (ray_outside_cluster, "errors.py", "import os, ray.tune as tune"),
    (speaking_outside_cli, "cluster/a.py", "import cyclopts"),
    (speaking_outside_cli, "cluster/options.py", "import cyclopts"),
    (speaking_outside_cli, "cluster/options.py", "print(1)"),
    (speaking_outside_cli, "search/a.py", "from argparse import ArgumentParser"),
    (speaking_outside_cli, "search/a.py", "def f():\n    print('x')"),
    (speaking_outside_cli, "cluster/session.py", "import sys\nsys.exit(1)"),
    (unsafe_load, "search/a.py", "torch.load(path)"),
    (unsafe_load, "search/a.py", "torch.load(path, weights_only=False)"),
    (unsafe_load, "search/a.py", "torch.load(path, weights_only=safe)"),
    (unsafe_load, "search/a.py", "def f(path, *, trust_pickle):\n    torch.load(path)"),
    (unsafe_load, PICKLE_READER, "def f(path):\n    torch.load(path, weights_only=False)"),
    (unsafe_load, "search/a.py", "from torch import load"),
    (unsafe_load, "cluster/a.py", "yaml.load(text, Loader)"),
    (unsafe_load, "cluster/a.py", "pickle.loads(data)"),
    (long_function, "search/a.py", LONG),
    (docstring_without_verb, "search/a.py", 'def f():\n    """The answer."""'),
    (docstring_without_verb, "search/a.py", 'def f():\n    """None."""'),
    (docstring_without_verb, "search/a.py", 'def f():\n    """(x, y) of a batch."""'),
    (docstring_without_verb, "search/a.py", 'class A:\n    def f(self):\n        """See `B`."""'),
    (long_function, "search/a.py", "class A:\n" + "".join(f"    {line}\n" for line in LONG.splitlines())),
]

GOOD = [
    (forbidden_direction, "search/a.py", "from ..datasets import images\nfrom ..errors import BadInput"),
    (forbidden_direction, "search/a.py", "from . import cluster_of_points"),
    (forbidden_direction, "datasets/a.py", "from .search import x"),
    (forbidden_direction, "datasets/a.py", "import datasets, search, cluster"),
    (forbidden_direction, "__main__.py", "from .cluster.cli import main"),
    (ray_outside_cluster, "cluster/session.py", "import ray"),
    (ray_outside_cluster, "search/a.py", "import rayon\nfrom .ray import x"),
    (speaking_outside_cli, "cluster/cli.py", "import cyclopts\nprint(1)\nsys.exit(2)"),
    (speaking_outside_cli, "cluster/options.py", "from cyclopts import Parameter"),
    (speaking_outside_cli, "search/a.py", "console.print(1)\nfingerprint(2)"),
    (
        unsafe_load,
        "search/a.py",
        "torch.load(path, weights_only=True)\nyaml.safe_load(text)",
    ),
    (unsafe_load, "search/a.py", "Importance.load(path)"),
    (unsafe_load, PICKLE_READER, "def f(path, *, trust_pickle):\n    torch.load(path, weights_only=False)"),
    (docstring_without_verb, "search/a.py", 'def f():\n    """Return the answer."""\n\ndef g(): ...'),
    (docstring_without_verb, "search/a.py", 'class A:\n    """The answer."""'),
    (docstring_without_verb, "cluster/cli.py", '@app.command\ndef f():\n    """How sweeps stand."""'),
    (long_function, "search/a.py", "def f():\n" + '    """' + "\n" * 100 + '"""\n' + "    return 1\n"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BAD)
def test_checker_finds(rule: Rule, path: str, source: str) -> None:
    assert complaints(rule, path, source)


@pytest.mark.parametrize(("rule", "path", "source"), GOOD)
def test_checker_lets_pass(rule: Rule, path: str, source: str) -> None:
    assert not complaints(rule, path, source)
