"""In what rows differ, in words."""

from __future__ import annotations

import json
from typing import Any

from theriac.search.report.differences import SETUP, setting_words, setup_words


def row(method: str = "xlf", search: str = "ptn", **settings: Any) -> dict[str, Any]:
    text = json.dumps(settings) if settings else None
    return {"method": method, "search": search, "granularity": "sample", "settings": text}


def test_settings_are_compared_within_a_method_and_search() -> None:
    rows = [row(rho=0.2, s_step=1.01), row(rho=0.2, s_step=1.1), row("lf", rho=0.9), row(search="grid", x=1)]
    assert setting_words(rows) == ["s_step 1.01", "s_step 1.1", "", ""]
    assert setting_words(rows[1:]) == ["", "", ""]
    assert setting_words([]) == []


def test_settings_that_were_not_recorded_say_so() -> None:
    assert setting_words([row(rho=0.2), row()]) == ["rho 0.2", "rho not recorded"]


def test_long_values_are_cut_and_stay_apart() -> None:
    rows = [row(alphas=[float(k) for k in range(n)], rho=0.2) for n in (20, 30)]
    words = setting_words(rows)
    assert len(set(words)) == 2
    assert all(len(one) < 50 and one.startswith("alphas [0.0, 1.0") for one in words)
    assert "rho" not in " ".join(words)


def test_setups_are_compared_field_by_field() -> None:
    def setup(**given: Any) -> tuple[object, ...]:
        return tuple({**dict.fromkeys(SETUP), **given}[name] for name in SETUP)

    recipes = [json.dumps({"iterations": n, "batch_size": 512}) for n in (2000, 4000)]
    setups = [setup(width=0.5, recipe=recipes[0]), setup(width=1.0, recipe=recipes[1])]
    assert setup_words(setups) == [
        "width 0.5, recipe.iterations 2000",
        "width 1.0, recipe.iterations 4000",
    ]
    assert setup_words(setups[:1]) == [""]
    assert setup_words([setup(recipe="not JSON"), setup(recipe=None)]) != ["", ""]
