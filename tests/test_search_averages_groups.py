"""Groups differ in nothing but what is pooled, and averages are over the same rows in all columns."""

from __future__ import annotations

import json
import math
import random
import statistics
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from theriac.errors import BadInput
from theriac.search.averages import MEASURES, Averages, Rows, Spread, better_everywhere, grouped_by, pooled
from theriac.search.averages.blocks import interval
from theriac.search.store import SCHEMAS

BASE: dict[str, Any] = {
    **{"dataset": "digits", "model": "resnet9", "width": 0.25, "attack": "badnets", "target": 0},
    **{"manipulated": 100, "attack_settings": '{"target": 0}', "recipe": '{"iterations": 9}'},
    **{"held_back": "{}", "gate": '{"asr": 0.9}', "setup": "s", "scenario": "c", "share": "0.2", "seed": 0},
    **{"method": "xlf", "search": "ptn", "granularity": "sample", "status": "stopped"},
    **{"settings": '{"rho": 0.2, "s_step": 1.1}', "uses_oracle": False, "damage": -1.0, "written_at": 0},
}
OTHER: dict[str, Any] = {
    **{"setup": "t", "gate": '{"asr": 0.5}', "share": "one_shot", "method": "lf", "search": "grid"},
    **{"granularity": "batch", "settings": '{"rho": 0.3, "s_step": 1.1}', "uses_oracle": True},
}


def rows(*changes: dict[str, Any]) -> Rows:
    full = [{**BASE, "key": f"k{i}", **change} for i, change in enumerate(changes)]
    return Rows(pa.Table.from_pylist(full, schema=SCHEMAS["searches"]))


@pytest.mark.parametrize("name", OTHER)
def test_whatever_differs_parts_rows(name: str) -> None:
    assert len(pooled(rows({}, {"seed": 1}, {name: OTHER[name]}))) == 2


def test_seeds_are_pooled_whatever_their_scenario_is_called() -> None:
    assert len(pooled(rows({}, {"seed": 1, "scenario": "d"}, {"sweep": "other", "seed": 2}))) == 1


def test_rows_that_do_not_say_their_setup_are_alone_unless_one_asks() -> None:
    bare = [{"setup": None, "scenario": f"c{seed}", "seed": seed} for seed in range(3)]
    assert len(pooled(rows(*bare))) == 3
    assert len(pooled(rows(*bare), ("seed", "scenario"))) == 1
    assert len(pooled(rows(*bare, {**bare[0], "manipulated": 5}), ("seed", "scenario"))) == 2


@pytest.mark.parametrize(
    ("pool", "change"),
    [
        ("manipulated", {"manipulated": 500, "setup": "t"}),
        ("share", {"share": "0.5"}),
        ("recipe.iterations", {"recipe": '{"iterations": 10}', "setup": "t"}),
        ("s_step", {"settings": '{"rho": 0.2, "s_step": 2.0}'}),
        ("attack", {"attack": "sine", "attack_settings": '{"target": 3}', "target": 3, "setup": "t"}),
        ("gate.asr", {"gate": '{"asr": 0.1}'}),
        ("method", {"method": "lf"}),
    ],
)
def test_what_is_named_is_pooled_and_nothing_else(pool: str, change: dict[str, Any]) -> None:
    assert len(pooled(rows({}, change), ("seed", pool))) == 1
    assert len(pooled(rows({}, change))) == 2
    for name in ("share", "width", "settings", "recipe"):
        if name not in change and name.split(".")[0] != pool.split(".")[0]:
            other = {"width": 0.5, "settings": "{}", "share": "0.9", "recipe": "{}"}[name]
            assert len(pooled(rows({}, {**change, name: other, "setup": "u"}), ("seed", pool))) == 2


def test_grouping_refuses_what_it_would_pool_unsaid() -> None:
    two = rows({}, {"width": 0.5, "setup": "t"}, {"seed": 1})
    assert len(grouped_by(two, ["width"])) == 2
    with pytest.raises(BadInput, match=r"differ in width \(0.25, 0.5\); add it to --group-by"):
        grouped_by(two, ["method"])
    assert len(grouped_by(two, ["method"], ("seed", "width"))) == 1
    steps = rows({}, {"settings": '{"rho": 0.2, "s_step": 2.0}'})
    with pytest.raises(BadInput, match=r"settings.s_step \(1.1, 2.0\)"):
        grouped_by(steps, ["method"])
    with pytest.raises(BadInput, match="no field 'wdith'"):
        pooled(two, ("wdith",))


def slow(groups: dict[Any, list[dict[str, Any]]], measure: str) -> list[Spread | None]:
    """The averages of `Averages`, row by row."""
    found: list[Spread | None] = []
    for members in groups.values():
        scored = [row for row in members if row["status"] not in ("failed", "gate_failed")]
        values = [row[measure] for row in scored if row[measure] is not None and not math.isnan(row[measure])]
        if not values:
            found.append(None)
        elif len(values) < len(scored):
            found.append(Spread(mean=None, sd=None, n=len(values)))
        else:
            sd = statistics.stdev(values) if len(values) > 1 else None
            mean = statistics.fmean(values)
            found.append(Spread(mean=mean, sd=sd, median=statistics.median(values), n=len(values)))
    return found


def numbers(spreads: list[Spread | None], part: str) -> list[float]:
    found = [getattr(one, part) if one else None for one in spreads]
    return [math.nan if value is None else value for value in found]


def test_averages_equal_those_made_row_by_row() -> None:
    draw = random.Random(16)
    changes = [
        {
            **{"share": draw.choice(["0.1", "0.5", "one_shot"]), "method": draw.choice(["xlf", "lf"])},
            **{"status": draw.choice(["stopped"] * 4 + ["no_stop", "failed", "gate_failed"]), "seed": number},
            **{"damage": draw.gauss(-1, 2), "asr": draw.choice([0.5, 0.25, None, float("nan")])},
            **{"steps": draw.randrange(100)},
        }
        for number in range(300)
    ]
    table = rows(*changes)
    groups: dict[Any, list[dict[str, Any]]] = {}
    for row in table.table.to_pylist():
        groups.setdefault((row["share"], row["method"]), []).append(row)
    averages = Averages(table, pooled(table))
    for measure in ("damage", "asr", "steps", "alpha"):
        ours, expected = averages.of(measure), slow(groups, measure)
        assert [one and one.n for one in ours] == [one and one.n for one in expected]
        for part in ("mean", "sd", "median"):
            assert numbers(ours, part) == pytest.approx(numbers(expected, part), rel=1e-12, nan_ok=True)
    assert set(MEASURES) <= set(table.names)


def test_every_column_of_a_line_is_over_the_same_rows() -> None:
    gate = {"status": "gate_failed", "asr_before": 0.1, "asr": None, "seed": 3}
    table = rows(*({"seed": seed, "asr_before": 0.9, "asr": 0.1} for seed in range(3)), gate)
    averages = Averages(table, pooled(table))
    (before,), (after,) = averages.of("asr_before"), averages.of("asr")
    assert before is not None
    assert after is not None
    assert (before.n, after.n) == (3, 3)
    assert before.mean == pytest.approx(0.9)
    assert (averages.n.tolist(), averages.counts.tolist()) == ([3], [4])
    assert averages.statuses() == [{"stopped": 3, "gate_failed": 1}]


def test_an_interval_is_over_victims_and_not_over_rows() -> None:
    values = np.array([1.0] * 10 + [2.0])
    low, high = interval(values, np.array([0] * 10 + [1]))
    assert (low, high) == (1.0, 2.0)
    assert interval(values, np.zeros(11, int)) == (None, None)
    mean = np.random.default_rng(1).normal(5, 1, size=400)
    low, high = interval(mean, np.arange(400))
    assert low is not None
    assert high is not None
    assert low < mean.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * mean.std(ddof=1) / 20, rel=0.1)


def line(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def test_the_best_line_is_better_than_chance_allows() -> None:
    high, low = line(*(9.0 + k / 9 for k in range(8))), line(*(5.0 - k / 7 for k in range(8)))
    assert better_everywhere([low, high], higher=True) == 1
    assert better_everywhere([low, high], higher=False) == 0
    assert better_everywhere([line(1, 2, 3), line(4, 5, 6)], higher=True) is None, (
        "three blocks prove nothing"
    )
    assert better_everywhere([high, line(*high.values())], higher=True) is None
    assert better_everywhere([high], higher=True) is None
    assert better_everywhere([high, {}], higher=True) is None
    mixed = line(*(9.0 + k / 9 + (-1) ** k for k in range(8)))
    assert better_everywhere([high, low, mixed], higher=True) is None, (
        "better than one of two is not the best"
    )


def test_lines_of_many_comparisons_need_more_than_one_of_few() -> None:
    """With six blocks p is 2 / 64 for one comparison, and too large for several after Holm's correction."""
    best, other = line(*(9.0 + k for k in range(6))), line(*(1.0 + k for k in range(6)))
    assert better_everywhere([best, other], higher=True) == 0
    assert better_everywhere([best, other, line(*other.values())], higher=True) is None


def test_no_rows_have_no_groups() -> None:
    empty = Rows(SCHEMAS["searches"].empty_table())
    groups = pooled(empty)
    assert (
        len(groups),
        Averages(empty, groups).of("damage"),
        json.dumps(Averages(empty, groups).statuses()),
    ) == (
        0,
        [],
        "[]",
    )
