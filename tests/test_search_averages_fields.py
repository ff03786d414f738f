"""Fields of rows by name, also those inside JSON, and rows chosen by them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from theriac.errors import BadInput
from theriac.search.averages import Rows, chosen, differing_settings
from theriac.search.store import SCHEMAS

ROWS: list[dict[str, Any]] = [
    {"share": "one_shot", "method": "xlf", "alpha": None, "settings": {"rho": 0.2, "s_step": 1.1}},
    {"share": "0.1", "method": "lf", "alpha": 2.5, "settings": {"rho": 0.2, "s_step": 1.01}},
    {"share": "0.5", "method": "xlf", "alpha": float("nan"), "settings": {"rho": 0.3}},
    {"share": "1.0", "method": "none", "alpha": 30.0, "settings": None, "uses_oracle": True},
]


def rows(*given: dict[str, Any]) -> Rows:
    full = [
        {"key": f"k{i}", "written_at": 0, "recipe": '{"iterations": 9}', **row} for i, row in enumerate(given)
    ]
    texts = [row | {"settings": row.get("settings") and json.dumps(row["settings"])} for row in full]
    return Rows(pa.Table.from_pylist(texts, schema=SCHEMAS["searches"]))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("share > 0.1", [2, 3]),
        ("share >= 0.1 and method = xlf", [2]),
        ("share = one_shot", [0]),
        ("share != one_shot", [1, 2, 3]),
        ("share = 1", [3]),
        ("method in (xlf, lf) and not share = 0.1", [0, 2]),
        ("method not in (xlf)", [1, 3]),
        ("method == 'xlf' or method = \"none\"", [0, 2, 3]),
        ("method = none", [3]),
        ("alpha = null", [0]),
        ("alpha != null", [1, 2, 3]),
        ("alpha > -1", [1, 3]),
        ("0.1 < share <= 0.5", [2]),
        ("settings.s_step = 1.1", [0]),
        ("s_step < 2", [0, 1]),
        ("rho = 0.3 or (s_step = 1.01)", [1, 2]),
        ("recipe.iterations = 9", [0, 1, 2, 3]),
        ("uses_oracle = true", [3]),
        ("not (share = one_shot or share = 0.1)", [2, 3]),
    ],
)
def test_rows_are_chosen(expression: str, expected: list[int]) -> None:
    assert np.flatnonzero(chosen(rows(*ROWS), expression)).tolist() == expected


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "share >",
        "share",
        "share > 0.1 method",
        "print(1)",
        "share = [x for x in y]",
        "share + 1 = 2",
        "share is one_shot",
        "(" * 5000 + "share = 1" + ")" * 5000,
        "(" * 300 + "share = 1" + ")" * 300,
        "lambda: 1",
        "share = \0",
        "share.__class__.x() = 1",
        "1 = 1",
    ],
)
def test_what_is_no_expression_is_a_line(expression: str) -> None:
    with pytest.raises(BadInput) as refused:
        chosen(rows(*ROWS), expression)
    assert "\n" not in str(refused.value)


def test_an_unknown_field_is_named_with_the_nearest() -> None:
    with pytest.raises(BadInput, match=r"no field 'sharre' .*share"):
        chosen(rows(*ROWS), "sharre = 1")


def test_numbers_and_seconds() -> None:
    found = rows(
        {"seconds_importance": 1.0, "seconds_search": 2.5}, {"seconds_search": 2.0}, {"share": "0.25"}
    )
    assert found.numbers("seconds").tolist()[:2] == [3.5, 2.0]
    assert np.isnan(found.numbers("seconds")[2])
    assert found.numbers("share")[2] == 0.25


def test_a_short_name_that_two_columns_have_is_not_offered() -> None:
    found = rows({"settings": {"batch_size": 5}, "recipe": '{"batch_size": 6}'})
    assert found.coded("settings.batch_size").values == [5]
    with pytest.raises(BadInput, match="no field 'batch_size'"):
        found.coded("batch_size")


def test_settings_that_differ_are_told_apart_in_words() -> None:
    texts = ['{"rho": 0.2, "s_step": 1.1}', '{"rho": 0.2}', None]
    assert list(differing_settings(texts).values()) == [
        "rho 0.2, s_step 1.1",
        "rho 0.2, s_step not recorded",
        "rho not recorded, s_step not recorded",
    ]
    assert differing_settings(texts[:1]) == {texts[0]: ""}
