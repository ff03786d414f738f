"""Rows chosen by an expression: ``share > 0.1 and method = xlf``."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from ...errors import BadInput, shortened
from .fields import Coded, Rows, as_number

MOST_CHARACTERS = 2000
_EQUALS = re.compile(r"""('[^']*'|"[^"]*"|[<>!=]=)|=""")
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MIRRORED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
}
_WORDS = {"null": None, "true": True, "false": False}
EXAMPLE = "share > 0.1 and method = xlf"


def chosen(rows: Rows, expression: str, *, lenient: bool = False) -> np.ndarray:
    """Tell which rows an expression chooses.

    Names of fields (see `Rows.names`) are compared with numbers, words or quoted texts, by ``=``, ``!=``,
    ``<``, ``<=``, ``>``, ``>=`` and ``in (a, b)``; comparisons are joined by ``and``, ``or``, ``not`` and
    parentheses. A number is compared with the number that a field holds, also as text, as in ``share > 0.1``;
    what is missing or no number is not chosen. ``null`` is a missing value, so ``alpha != null`` chooses rows
    that have an alpha.

    Args:
        rows: to choose from.
        expression: in Python's syntax, with ``=`` for ``==``.
        lenient: a field that no row has is missing in all of them, rather than an error.

    Returns:
        bool [N].

    Raises:
        BadInput: it cannot be read, or names a field that no row has.
    """
    return _Choice(rows, expression, lenient).of(_read(expression))


def _read(expression: str) -> ast.expr:
    if len(expression) > MOST_CHARACTERS:
        raise BadInput(
            f"a filter of {len(expression)} characters is too long; give {MOST_CHARACTERS} at most"
        )
    try:
        text = _EQUALS.sub(lambda found: found[1] or "==", expression.strip())
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _unreadable(expression) from error


def _unreadable(expression: str) -> BadInput:
    return BadInput(f"the filter {shortened(expression)} cannot be read; write it like '{EXAMPLE}'")


class _Choice:
    def __init__(self, rows: Rows, expression: str, lenient: bool) -> None:
        self._rows, self._expression, self._lenient = rows, expression, lenient

    def of(self, node: ast.expr) -> np.ndarray:
        if isinstance(node, ast.BoolOp):
            join = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return np.asarray(join.reduce([self.of(value) for value in node.values]))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.of(node.operand)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        raise _unreadable(self._expression)

    def _compared(self, node: ast.Compare) -> np.ndarray:
        sides = [node.left, *node.comparators]
        pairs = zip(sides, node.ops, sides[1:], strict=False)
        return np.asarray(np.logical_and.reduce([self._pair(*pair) for pair in pairs]))

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> np.ndarray:
        kind = type(op)
        if isinstance(left, ast.Constant | ast.UnaryOp):  # 0.1 < share
            left, right, kind = right, left, _MIRRORED.get(kind, kind)
        coded = self._field(self._name(left))
        if kind in (ast.In, ast.NotIn):
            values = [self._value(one) for one in _members(right)]
            held = coded.where(lambda value: any(_holds(ast.Eq, value, one) for one in values))
            return held if kind is ast.In else ~held
        if kind not in _COMPARE:
            raise _unreadable(self._expression)
        value = self._value(right)
        return coded.where(lambda own: _holds(kind, own, value))

    def _field(self, name: str) -> Coded:
        if self._lenient and name not in self._rows.names:
            return Coded(codes=np.zeros(len(self._rows), np.int64), values=[None])
        return self._rows.coded(name)

    def _name(self, node: ast.expr) -> str:
        if isinstance(node, ast.Name):
            return node.id
        if isinstance(node, ast.Attribute):
            return f"{self._name(node.value)}.{node.attr}"
        raise _unreadable(self._expression)

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            number = self._value(node.operand)
            if isinstance(number, int | float):
                return -number
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float | None):
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            word = self._name(node)
            return _WORDS.get(word.lower(), word)
        raise _unreadable(self._expression)


def _members(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple | ast.List) else [node]


def _holds(kind: type[ast.cmpop], value: Any, wanted: Any) -> bool:
    """Tell whether a comparison with a row's value holds; with a missing one, only null = null does."""
    if value is None or wanted is None:
        same = value is None and wanted is None
        return same if kind is ast.Eq else wanted is None and not same and kind is ast.NotEq
    if isinstance(wanted, bool) or isinstance(value, bool):
        return _COMPARE[kind](str(value).lower(), str(wanted).lower())
    if isinstance(wanted, int | float):
        number = as_number(value)
        return kind is ast.NotEq if math.isnan(number) else _COMPARE[kind](number, wanted)
    return _COMPARE[kind](str(value), wanted)
