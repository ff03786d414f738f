"""The searches of folders: several at once, the newest row of each key, and nothing that no sweep writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from theriac.errors import BadInput
from theriac.search.report import finished_searches
from theriac.search.store import ResultsStore
from theriac.search.sweep import describer, dump_sweep, load_sweep
from theriac.tests.filled_results import filled_rows, write
from theriac.tests.older_results import made_older


def test_several_folders_are_one_and_the_newest_row_counts(tmp_path: Path) -> None:
    rows = filled_rows("digits-quick")
    write(tmp_path / "a", rows)
    changed = [{**row, "damage": -3.25} for row in rows[:2]]
    write(tmp_path / "b", [*changed, *filled_rows("digits-quick", ["seeds=[5]"])])
    for order in (("a", "b"), ("b", "a")):
        found = finished_searches(*(tmp_path / name for name in order)).to_pylist()
        assert len(found) == 2 * len(rows)
        damage = {row["key"]: row["damage"] for row in found}
        assert [damage[row["key"]] for row in changed] == [-3.25, -3.25]


def test_rows_of_an_older_folder_say_what_they_are(tmp_path: Path) -> None:
    rows = filled_rows("digits-quick")
    store = ResultsStore(tmp_path)
    part = store.append("searches", rows)
    store.append("runs", [{"key": "r", "configuration": dump_sweep(load_sweep("digits-quick"))}])
    assert part is not None
    made_older(part)
    found = {row["key"]: row for row in finished_searches(tmp_path).to_pylist()}
    assert {key: row["setup"] for key, row in found.items()} == {row["key"]: row["setup"] for row in rows}
    bare = ResultsStore(tmp_path, create=False).read("searches")
    assert describer(store)(bare).num_rows == len(rows)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"asr": 1.5}, "asr = 1.5, not in 0 to 1"),
        ({"damage": float("-inf")}, "damage = -inf, not in -100 to 100"),
        ({"steps": -1}, "steps = -1, not in 0 to"),
        ({"share": None}, "share is missing"),
        ({"dataset": None, "asr": 0.5}, "dataset is missing"),
    ],
)
def test_a_row_that_no_sweep_writes_is_left_out_and_named(
    tmp_path: Path, change: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = filled_rows("digits-quick")
    write(tmp_path, [{**rows[0], **change}, *rows[1:]])
    assert finished_searches(tmp_path).num_rows == len(rows) - 1
    assert (
        f"left out 1 rows of results that no sweep writes, such as '{rows[0]['key']}': {words}" in caplog.text
    )


def test_a_value_that_was_not_measured_is_no_fault(tmp_path: Path) -> None:
    rows = filled_rows("digits-quick")
    write(tmp_path, [{**rows[0], "asr": float("nan"), "damage": None}, *rows[1:]])
    assert finished_searches(tmp_path).num_rows == len(rows)


def test_no_finished_search_is_a_line(tmp_path: Path) -> None:
    ResultsStore(tmp_path)
    with pytest.raises(BadInput, match="holds no finished searches yet; run `theriac sweep`"):
        finished_searches(tmp_path)
