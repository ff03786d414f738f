"""What users can act on: one line, clean, with a remedy; and the text of every refusal in the sources."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from theriac.errors import BadInput, NotFinite, NotWritable, closest, printable, shortened
from theriac.search.settings import heal_settings

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted(
    path for part in ("datasets", "unlearning", "search", "cluster") for path in (ROOT / part).rglob("*.py")
)
REFUSALS = ("BadInput", "NotFinite", "NotWritable", "MissingDataset")
REMEDY = re.compile(
    r"[;,:(] ?(or |then |else )?(add|bring|call|change|check|choose|clean|combine|compute|convert|copy"
    r"|correct|delete"
    r"|do not|exclude|export|fetch|find|free|give|hold|install|it must|keep|leave|list|load|lower|make"
    r"|mount|move|name"
    r"|number|put|raise|reduce|remove|rename|repair|replace|resize|run|save|see|set|shorten|start"
    r"|subtract|take"
    r"|transform|try|turn|use|wait|wrap|write)\b"
)
"""How a remedy begins."""
HOLES = "{}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cat", "cat"),
        ("é → 🦠 [red]x[/] \\n", "é → 🦠 [red]x[/] \\n"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("\x9b2J\x7f\x85", r"\x9b2J\x7f\x85"),
        ("\u2028\u2066\u200f\u061c", r"\u2028\u2066\u200f\u061c"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_no_terminal_should_get_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert str(BadInput(text)) == shown


@given(st.text(st.characters()))
def test_escaped_text_is_one_line_and_stays_as_it_is(text: str) -> None:
    once = printable(text)
    assert len(once.splitlines()) <= 1
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", once)
    assert printable(once) == once


@pytest.mark.parametrize("kind", [BadInput, NotFinite, NotWritable])
def test_a_refusal_survives_the_way_between_processes(kind: type[BadInput]) -> None:
    again = pickle.loads(pickle.dumps(kind("a\nb")))
    assert (type(again), str(again)) == (kind, r"a\nb")


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("xfl", "; did you mean 'xlf'?"),
        ("XLF", "; did you mean 'xlf'?"),
        ("potion", ""),
        (3, ""),
        ("x" * 1_000_000, ""),
    ],
)
def test_the_closest_name_is_suggested(word: object, hint: str) -> None:
    assert closest(word, ["ssd", "lf", "xlf"]) == hint


@pytest.mark.parametrize("value", ["x" * 5000, [[1] * 900] * 90, 10**9000, tuple(range(9999))], ids=type)
def test_long_values_are_shown_short(value: object) -> None:
    assert len(shortened(value)) < 300


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "xfl"}, ["method = 'xfl'", "did you mean 'xlf'?"]),
        ({"search": "grdi"}, ["search = 'grdi'", "did you mean 'grid'?"]),
        ({"precison": 1}, ["unknown setting 'precison'", "did you mean 'precision'?"]),
        ({"rho": "x"}, ["rho = 'x'", "valid number", "or input should be 'auto'"]),
        ({"piece": []}, ["piece = []", "valid integer", "or input should be 'whole'"]),
        ({"alphas": (1.0, "x")}, ["alphas.1 = 'x'", "valid number"]),
        ({"method": "a\x1b[2J"}, [r"a\x1b[2J"]),
    ],
)
def test_settings_are_refused_with_all_ways_and_a_suggestion(
    settings: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(BadInput) as caught:
        heal_settings(**({"search": "grid"} if "alphas" in settings else {}), **settings)
    assert all(word in str(caught.value) for word in words), caught.value


def text_of(node: ast.expr) -> str:
    """The literal part of a message, with holes where values come in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            HOLES if isinstance(part, ast.FormattedValue) else text_of(part) for part in node.values
        )
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return HOLES


def refusals(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of every `BadInput` that is made with a literal message."""
    for node in ast.walk(tree):
        named = isinstance(node, ast.Call) and ast.unparse(node.func) in REFUSALS and node.args
        if named and isinstance(node, ast.Call):
            yield node.lineno, text_of(node.args[0])


def faults(message: str) -> list[str]:
    """What a message lacks; those that hand on another's text, which ends them, are whole if that is."""
    found = ["it has several lines"] if "\n" in message else []
    found += ["it ends in a full stop"] if re.search(r"[^.]\.$", message) else []
    handed_on = message.endswith(HOLES)
    return found + (["it has no remedy"] if not handed_on and not REMEDY.search(message) else [])


def test_every_refusal_is_a_line_with_a_remedy() -> None:
    messages = [
        (path.name, line, text)
        for path in SOURCES
        for line, text in refusals(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert len(messages) > 200
    bad = [
        f"{name}:{line} {', '.join(faults(text))}: {text}" for name, line, text in messages if faults(text)
    ]
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ('raise BadInput("x is wrong")', 1),
        ('raise BadInput("x is wrong; give y")', 0),
        ('raise BadInput(f"x {x}: give y")', 0),
        ('raise BadInput(f"{path}: {error}")', 0),
        ('raise BadInput(f"x {x}\\nis wrong; give y")', 1),
        ('raise NotFinite("logits are NaN; check them.")', 1),
        ('raise ValueError("internal")', 0),
    ],
)
def test_the_check_of_messages_tells_good_from_bad(source: str, count: int) -> None:
    assert sum(bool(faults(text)) for _, text in refusals(ast.parse(source))) == count
